"""A package of every kind, as `alignlab plugins new` writes it: built, installed in a fresh environment, and tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignlab.plugins.scaffold import USES, new_package

OFFLINE = ("--", "--no-index")


@pytest.fixture(scope="module")
def packages(installed, tmp_path_factory):
    """The six directories, whose wheels are installed."""
    directory = tmp_path_factory.mktemp("packages")
    command = [str(installed.bin / "alignlab"), "plugins"]
    wheels = []
    for kind in USES:
        subprocess.run([*command, "new", f"new-{kind}", "--kind", kind, "--directory", directory], check=True)
        source = directory / f"alignlab-new-{kind}"
        build = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
        done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True)
        wheels.append(source / "dist" / done.stdout.splitlines()[-1])
    subprocess.run([*command, "install", *wheels, *OFFLINE], check=True)
    yield {kind: directory / f"alignlab-new-{kind}" for kind in USES}
    names = [f"alignlab-new-{kind}" for kind in USES]
    subprocess.run([*command, "uninstall", "--yes", *names], check=True, capture_output=True)


@pytest.fixture
def environment(tmp_path):
    """Where builds go, and where ninja is: beside this interpreter, not beside that of the fresh environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"ALIGNLAB_CACHE": str(tmp_path / "cache"), "PATH": path}


def test_an_installed_alignlab_writes_what_the_source_tree_does(packages, tmp_path):
    for kind, written in packages.items():
        from_tree = new_package(f"new-{kind}", kind, tmp_path)
        files = {path.relative_to(from_tree) for path in from_tree.rglob("*") if path.is_file()}
        assert Path(".github/workflows/test.yml") in files
        for file in files:
            assert (written / file).read_bytes() == (from_tree / file).read_bytes()


def test_the_tests_of_every_package_pass_as_they_were_generated(packages, installed, environment):
    # One process for all, because importing torch is what takes long; -c, so that no pyproject.toml above is found.
    tests = [str(path / "tests") for path in packages.values()]
    options = ["-q", "-c", os.devnull, "--import-mode=importlib", "-p", "no:cacheprovider"]
    done = installed.run("python", "-m", "pytest", *options, *tests, **environment)
    passed = int(done.stdout.splitlines()[-1].split(" passed")[0])
    assert passed > 2 * len(packages)
    assert "failed" not in done.stdout and "skipped" not in done.stdout


def test_check_runs_the_kit_on_an_installed_one_and_on_a_directory(packages, installed):
    out = installed.run("alignlab", "plugins", "check", "reward.new_reward").stdout
    lines = out.splitlines()
    assert lines[0].startswith("reward new_reward of alignlab-new-reward 0.1.0")
    assert lines[-1] == f"all {len(lines) - 2} checks passed"
    broken = packages["reward"] / "src" / "alignlab_new_reward" / "__init__.py"
    text = broken.read_text()
    broken.write_text(text.replace("return torch.tensor(scores,", "return torch.tensor(scores[1:],"))
    command = [installed.bin / "alignlab", "plugins", "check", packages["reward"], *OFFLINE, "--no-build-isolation"]
    done = subprocess.run(list(map(str, command)), cwd=installed.directory, capture_output=True, text=True)
    broken.write_text(text)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "  broken  " in done.stdout
    # The one that is installed was not touched.
    assert (installed.site_packages / "alignlab_new_reward" / "__init__.py").read_text() == text
