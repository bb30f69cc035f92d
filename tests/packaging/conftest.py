"""Builds and installs of a copy of the source tree. Nothing here writes into the tree itself."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = sysconfig.get_path("purelib")


def run(*command, cwd, **environment):
    """Run a command that must succeed; what it printed is shown when it does not."""
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


class FreshVenv:
    """A virtual environment of its own that sees the heavy dependencies (torch, transformers) of the one running it.

    They come through a .pth file, because downloading and unpacking them would take minutes. What is installed here
    comes first on the path, and the editable install of the outer environment does not reach in: its hook is a .pth
    file too, and only those in a venv's own site-packages are read.
    """

    def __init__(self, directory):
        self.directory = directory
        venv.create(directory, symlinks=os.name != "nt")
        self.bin = directory / ("Scripts" if os.name == "nt" else "bin")
        (self.site_packages,) = directory.glob("**/site-packages")

    def install(self, *what):
        # The outer pip installs, so that none has to be unpacked here. --no-deps: they are there already.
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "--no-deps", "--no-index"]
        run(*pip, *what, cwd=self.directory)

    def see_dependencies(self):
        """To be called after alignlab is installed: pip must not take the outer alignlab for one to replace."""
        (self.site_packages / "dependencies.pth").write_text(SITE_PACKAGES)

    def run(self, command, *arguments, **environment):
        return run(self.bin / command, *arguments, cwd=self.directory, **environment)


@pytest.fixture
def source(tmp_path):
    """A copy of what a clone holds."""
    return copy_source(tmp_path / "source")


@pytest.fixture
def fresh_venv(tmp_path):
    return FreshVenv(tmp_path / "venv")


@pytest.fixture
def build_wheel():
    """Build a wheel with the tools of this environment; return it and what the build said."""

    def build(source, python=sys.executable, **environment):
        command = [python, "-c", "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"]
        done = run(*command, cwd=source, **environment)
        return source / "dist" / done.stdout.splitlines()[-1], done.stderr

    return build


@pytest.fixture(scope="session")
def build_wheels():
    """Build the wheel of each source with the tools of this environment; return them."""

    def build(sources):
        for source in sources:
            code = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
            yield source / "dist" / run(sys.executable, "-c", code, cwd=source).stdout.splitlines()[-1]

    return build


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The sdist, and the wheel that is built from it (not from the tree)."""
    source = copy_source(tmp_path_factory.mktemp("built") / "source")
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    (sdist,), (wheel,) = source.glob("dist/*.tar.gz"), source.glob("dist/*.whl")
    return SimpleNamespace(sdist=sdist, wheel=wheel)


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory):
    """A fresh virtual environment with the wheel in it."""
    environment = FreshVenv(tmp_path_factory.mktemp("installed") / "venv")
    environment.install(built.wheel)
    environment.see_dependencies()
    return environment


def copy_source(target):
    ignored = (".git", ".venv", "build", "dist", "runs", "*.egg-info", "*.so", "__pycache__", ".*_cache")
    return shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*ignored))
