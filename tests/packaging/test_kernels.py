"""Kernels that are compiled after the install: alignlab's own, and those of someone else."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from alignlab.ops import build

ROOT = Path(__file__).parents[2]
NOT_BUILT = build.missing_tools()
pytestmark = pytest.mark.skipif(NOT_BUILT is not None, reason=str(NOT_BUILT))

CHECK_NATIVE = """
import torch
from alignlab import ops
print(ops.gae(torch.ones(1, 3), torch.zeros(1, 3), torch.ones(1, 3).bool(), lam=1.0, backend="native")[0].tolist())
"""

CHECK_THIRD_PARTY = """
from alignlab import ops
from alignlab.plugins import Plugins
from alignlab.testing import check_op
Plugins().use("kernel.doubling")
check_op("gae", "doubling")
print(ops.implementations("gae")[-1])
"""


@pytest.fixture
def environment(tmp_path):
    """Where builds go, and where ninja is: beside this interpreter, not beside that of the fresh environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"ALIGNLAB_CACHE": str(tmp_path / "cache"), "PATH": path}


def test_kernels_build_compiles_what_a_wheel_was_built_without(source, fresh_venv, environment, build_wheel):
    wheel, _ = build_wheel(source, CXX="no-such-compiler")
    fresh_venv.install(wheel)
    fresh_venv.see_dependencies()
    said = fresh_venv.run("alignlab", "kernels", "build", **environment).stdout
    assert "cache/kernels/_C-" in said
    done = fresh_venv.run("python", "-c", CHECK_NATIVE, **environment)
    assert (done.stdout, done.stderr) == ("[[3.0, 2.0, 1.0]]\n", "")
    # Done before: found again, without a compiler.
    again = fresh_venv.run("alignlab", "kernels", "list", **(environment | {"CXX": "no-such-compiler"}))
    assert "cpu capability" in again.stdout


def test_a_kernel_of_someone_else_is_built_from_its_source_and_holds_what_ours_do(installed, tmp_path, environment):
    package = shutil.copytree(ROOT / "tests" / "third_party" / "alignlab_doubling", tmp_path / "package")
    installed.install("--no-build-isolation", package)
    done = installed.run("python", "-c", CHECK_THIRD_PARTY, **environment)
    assert done.stdout == "doubling\n"
    shown = installed.run("alignlab", "bench", "gae", "--use", "doubling", "--seconds", "0.01", **environment)
    assert "doubling" in shown.stdout
