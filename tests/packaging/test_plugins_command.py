"""`alignlab plugins install` and `uninstall`, in a fresh environment: what pip is told to do, and what it is kept from.

The network is not asked: `--no-index`, and no build isolation.
"""

import json
import subprocess
import zipfile

import pytest

from alignlab import __version__

OFFLINE = ("--", "--no-build-isolation", "--no-index")
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"

[project.entry-points.alignlab]
"{point}" = "{module}"

[tool.setuptools]
py-modules = ["{module}"]
"""


@pytest.fixture
def source(tmp_path):
    """Write the source of a package of one module; return its directory."""

    def write(name, point, module, text=""):
        directory = tmp_path / name
        directory.mkdir()
        (directory / f"{module}.py").write_text(text)
        (directory / "pyproject.toml").write_text(PROJECT.format(name=name, point=point, module=module))
        return directory

    return write


@pytest.fixture
def wheel(tmp_path):
    """Write a wheel of one empty module, as a build would: entry points, and what it depends on."""

    def write(name, version, point, module, requires="alignlab"):
        stem = f"{name.replace('-', '_')}-{version}"
        files = {
            f"{module}.py": "",
            f"{stem}.dist-info/METADATA": (
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
            ),
            f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        if point:
            files[f"{stem}.dist-info/entry_points.txt"] = f"[alignlab]\n{point} = {module}\n"
        record = f"{stem}.dist-info/RECORD"
        files[record] = "".join(f"{path},,\n" for path in [*files, record])
        path = tmp_path / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for place, text in files.items():
                archive.writestr(place, text)
        return path

    return write


@pytest.fixture
def alignlab(installed, tmp_path):
    """`alignlab plugins` in the environment: (exit code, output, errors). What is there afterwards is uninstalled."""

    def call(*words):
        command = [installed.bin / "alignlab", "plugins", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr

    def others():
        rows = json.loads(call("list", "--json")[1])
        return {row["distribution"]: f"{row['kind']}.{row['name']} {row['version']}" for row in rows} | {"alignlab": ""}

    before = others()
    call.plugins = lambda: {key: value for key, value in others().items() if key not in before}
    yield call
    if left := call.plugins():
        assert call("uninstall", "--yes", *left)[0] == 0


def test_several_at_once_a_wheel_an_editable_one_and_a_git_url_come_and_go(alignlab, source, wheel):
    second, third = source("pl-second", "reward.second", "second"), source("pl-third", "third", "third", "1 / 0")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-C", str(third)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    first = wheel("pl-first", "1.0", "method.first", "first")
    code, out, error = alignlab("install", first, "-e", second, f"git+file://{third}", *OFFLINE)
    assert (code, out.splitlines()) == (
        0,
        [
            "added pl-first 1.0: method first (module first)",
            "added pl-second 1.0: reward second (module second)",
            "added pl-third 1.0: hooks third (module third)",
        ],
    ), error
    assert alignlab.plugins() == {
        "pl-first": "method.first 1.0",
        "pl-second": "reward.second 1.0",
        "pl-third": "hooks.third 1.0",
    }
    # The third raises when it is imported: it goes all the same.
    code, out, _ = alignlab("uninstall", "--yes", "method.first", "second", "PL_third")
    assert (code, out.splitlines()[-3:]) == (
        0,
        ["removed pl-first 1.0", "removed pl-second 1.0", "removed pl-third 1.0"],
    )
    assert alignlab.plugins() == {}


def test_replacing_is_asked_for_and_a_name_or_a_module_of_another_is_refused(alignlab, wheel):
    assert alignlab("install", wheel("pl-one", "1.0", "method.pl", "pl_one"), *OFFLINE)[0] == 0
    newer = wheel("pl-one", "2.0", "method.pl", "pl_one")
    code, _, error = alignlab("install", newer, *OFFLINE)
    assert (code, error.splitlines()[0]) == (2, "error: this replaces pl-one 1.0 by 2.0")
    name, module = wheel("pl-name", "0.3", "method.pl", "pl_name"), wheel("pl-module", "0.3", "data.pl", "pl_one")
    # What a plugin depends on is looked at too, before anything is installed.
    carrier = wheel("pl-carrier", "1.0", "reward.pl", "pl_carrier", f"pl-name @ file://{name}")
    for file, what in (
        (name, "pl-name 0.3 cannot be installed: the method 'pl'"),
        (module, "pl-module 0.3 cannot be installed: the module 'pl_one'"),
        (carrier, "pl-name 0.3 cannot be installed: the method 'pl'"),
    ):
        code, _, error = alignlab("install", "--yes", file, *OFFLINE)
        assert (code, error) == (
            2,
            f"error: {what} belongs to pl-one 1.0\n  to do: pip uninstall pl-one, then try again\n",
        )
    assert alignlab.plugins() == {"pl-one": "method.pl 1.0"}
    code, out, _ = alignlab("install", "--yes", newer, *OFFLINE)
    assert (code, out) == (0, "replaced pl-one 1.0 by 2.0: method pl (module pl_one)\n")


def test_what_is_for_another_alignlab_or_is_no_plugin_changes_nothing(alignlab, source, wheel):
    future = wheel("pl-future", "1.0", "method.pl", "pl_future", "alignlab>=90,<91")
    assert alignlab("install", future, *OFFLINE) == (
        2,
        "",
        f"error: pl-future 1.0 is for alignlab >=90,<91, and this is alignlab {__version__}\n"
        "  to do: pip install 'alignlab>=90,<91', or install another version of pl-future\n",
    )
    code, _, error = alignlab("install", wheel("pl-nothing", "1.0", "", "pl_nothing"), *OFFLINE)
    assert (code, error.splitlines()[0]) == (
        2,
        "error: pl-nothing 1.0 is no plugin: it has no entry point of the group 'alignlab'",
    )
    broken = source("pl-broken", "method.pl", "pl_broken")
    (broken / "pyproject.toml").write_text("[project\n")
    code, _, error = alignlab("install", broken, *OFFLINE)
    assert code == 2
    assert "failed; nothing was changed. It said:" in error
    assert alignlab.plugins() == {}


def test_metadata_that_is_torn_is_in_nobodys_way_and_can_be_uninstalled(alignlab, wheel, installed):
    assert alignlab("install", wheel("pl-torn", "1.0", "method.torn", "torn"), *OFFLINE)[0] == 0
    (installed.site_packages / "pl_torn-1.0.dist-info" / "entry_points.txt").write_text("[alignlab]\nmethod.torn\n")
    assert alignlab("install", wheel("pl-well", "1.0", "method.well", "well"), *OFFLINE)[0] == 0
    code, out, _ = alignlab("uninstall", "--yes", "pl-torn", "pl-well")
    assert (code, out.splitlines()[-2:]) == (0, ["removed pl-torn 1.0", "removed pl-well 1.0"])
