"""What is refused before pip installs it. Distributions are real ones on sys.path, and in a directory beside it."""

import pytest

from alignlab import __version__
from alignlab.errors import PluginError
from alignlab.plugins.found import current
from alignlab.plugins.packages import read_package, refuse_clashes


@pytest.fixture
def package(tmp_path):
    """Write a distribution that is not installed yet, and read it."""

    def write(name, version="1.0", points=(), files=()):
        site = tmp_path / f"staged-{name}"
        about = site / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir(parents=True)
        for file in files:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text("")
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (about / "entry_points.txt").write_text("[alignlab]\n" + "".join(f"{point} = x\n" for point in points))
        (about / "RECORD").write_text("".join(f"{file},,\n" for file in files) + f"{about.name}/METADATA,,\n")
        (distribution,) = current([str(site)])
        return read_package(distribution)

    return write


def refused(*packages):
    with pytest.raises(PluginError) as raised:
        refuse_clashes(packages, current())
    return str(raised.value)


def test_a_package_owns_its_top_level_modules_and_no_share_of_a_namespace(package):
    files = ["one.py", "two/__init__.py", "two/inner.py", "space/part/__init__.py", "fast.cpython-311-x86.so", "a.txt"]
    assert package("mine", files=files).modules == {"one", "two", "fast"}


def test_a_plugins_name_that_someone_has_is_refused_with_the_command_that_mends_it(distribution, package):
    distribution("one", "1.0", {"method.fast": "one_fast"})
    assert refused(package("two", "2.0", ["method.fast"])) == (
        "two 2.0 cannot be installed: the method 'fast' belongs to one 1.0\n  to do: pip uninstall one, then try again"
    )


def test_a_module_that_someone_has_is_refused_with_the_command_that_mends_it(distribution, package):
    distribution("one", "1.0", helpers="")
    assert refused(package("two", "2.0", ["method.fast"], ["helpers/__init__.py"])) == (
        "two 2.0 cannot be installed: the module 'helpers' belongs to one 1.0\n"
        "  to do: pip uninstall one, then try again"
    )


def test_a_module_of_an_editable_one_is_found_in_its_top_level(distribution, package):
    about = distribution("one", "1.0")
    (about / "top_level.txt").write_text("helpers\n")
    assert "the module 'helpers' belongs to one 1.0" in refused(package("two", files=["helpers.py"]))


@pytest.mark.parametrize(
    ("points", "files", "what"),
    [
        (["method.ppo"], [], f"the method 'ppo' belongs to alignlab {__version__}"),
        (["data.rows"], [], "the data source 'rows' belongs to alignlab"),
        ([], ["alignlab/__init__.py"], f"the module 'alignlab' belongs to alignlab {__version__}"),
        ([], ["alignlab_dpo/__init__.py"], f"the module 'alignlab_dpo' belongs to alignlab {__version__}"),
        ([], ["json.py"], "the module 'json' belongs to Python"),
    ],
)
def test_what_is_alignlabs_own_or_pythons_is_refused_and_nothing_is_to_be_uninstalled(package, points, files, what):
    assert refused(package("two", "2.0", points, files)) == (
        f"two 2.0 cannot be installed: {what}\n  to do: leave it out; its author: give it another name"
    )


def test_two_new_ones_with_one_name_or_module_are_refused(package):
    first, second = package("one", points=["reward.nice"]), package("two", points=["reward.nice"])
    assert refused(first, second) == (
        "one 1.0 and two 1.0 both own the reward 'nice'\n  to do: install only one of them"
    )
    first, second = package("three", files=["tests/__init__.py"]), package("four", files=["tests/__init__.py"])
    assert "both own the module 'tests'" in refused(first, second)


def test_a_new_version_may_take_what_its_old_one_has(distribution, package):
    distribution("My_One", "1.0", {"method.fast": "fast"}, fast="")
    refuse_clashes([package("my-one", "2.0", ["method.fast"], ["fast.py"])], current())


def test_one_name_of_two_kinds_and_a_module_like_anothers_are_no_clash(distribution, package):
    distribution("one", "1.0", {"method.fast": "fast"}, fast="")
    refuse_clashes([package("two", "2.0", ["reward.fast"], ["fast_too.py", "fas.py"])], current())


def test_a_broken_distribution_is_in_nobodys_way(distribution, package):
    torn = distribution("torn")
    (torn / "entry_points.txt").write_text("[alignlab]\nmethod.fast\n")
    (torn / "RECORD").unlink()
    (torn / "METADATA").write_bytes(b"\xff\xfe")
    refuse_clashes([package("two", "2.0", ["method.fast"], ["two.py"])], current())
