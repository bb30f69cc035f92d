"""Builds where something is missing, and the editable one."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SITE_PACKAGES = Path(next(path for path in sys.path if path.endswith("site-packages")))


def serves_the_reference(wheel, fresh_venv):
    """Install a wheel and compute what the native kernel would."""
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".pyd"))]
    fresh_venv.install(wheel)
    fresh_venv.see_dependencies()
    code = """
import torch
from alignlab import ops
print(ops.gae(torch.ones(1, 3), torch.zeros(1, 3), torch.ones(1, 3).bool(), lam=1.0)[0].tolist())
"""
    done = fresh_venv.run("python", "-c", code)
    assert done.stdout == "[[3.0, 2.0, 1.0]]\n"
    assert "alignlab was installed without its C++ extension: the reference ops serve" in done.stderr


def test_without_torch_the_wheel_is_pure_and_the_reference_serves(source, fresh_venv, build_wheel):
    # As in pip's build isolation: the build tools are there, and torch is not. Linked, so that nothing is downloaded.
    for tool in ("setuptools", "_distutils_hack", "wheel", "packaging", "tomli"):
        for path in SITE_PACKAGES.glob(f"{tool}*"):
            (fresh_venv.site_packages / path.name).symlink_to(path)
    wheel, said = build_wheel(source, fresh_venv.bin / "python")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "torch is not there" in said
    serves_the_reference(wheel, fresh_venv)


def test_without_a_compiler_the_wheel_is_pure_and_the_reference_serves(source, fresh_venv, build_wheel):
    wheel, said = build_wheel(source, CXX="no-such-compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "there is no C++ compiler (no-such-compiler)" in said
    serves_the_reference(wheel, fresh_venv)


@pytest.mark.skipif(os.name == "nt", reason="CXX is not asked there")
def test_a_compiler_that_fails_ends_in_an_install_without_the_extension(source, fresh_venv, build_wheel):
    wheel, said = build_wheel(source, CXX=shutil.which("false"))
    assert "the extension was not built, the reference ops will serve" in said
    serves_the_reference(wheel, fresh_venv)


def test_setup_raises_when_it_finds_no_plugin(source):
    shutil.rmtree(source / "plugins")
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=source, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"no plugins/*/pyproject.toml below {source}" in done.stderr


def test_setup_raises_when_two_plugins_take_one_name(source):
    shutil.copy(source / "plugins/dpo/pyproject.toml", source / "plugins/rlhf/pyproject.toml")
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=source, capture_output=True, text=True)
    assert done.returncode != 0
    assert "method.dpo belongs to another plugin already" in done.stderr


def test_an_editable_install_finds_every_root(source, fresh_venv, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")  # whether it compiles is not the question here
    code = "from importlib.util import find_spec as f; print(f('alignlab').origin, f('alignlab_cai').origin)"
    editable_install(source, fresh_venv)
    roots = fresh_venv.run("python", "-c", code).stdout.split()
    assert roots == [str(source / "alignlab/__init__.py"), str(source / "plugins/cai/src/alignlab_cai/__init__.py")]


def editable_install(source, fresh_venv):
    # The build runs in this environment, so that the fresh one needs no build tools while pip installs into it.
    code = "from setuptools.build_meta import build_editable; print(build_editable('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    fresh_venv.install(source / "dist" / done.stdout.splitlines()[-1])
