import json
import shutil
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGINS = {
    "data.ai_feedback": "alignlab_rlaif",
    "data.critique_revision": "alignlab_cai",
    "reward.judge": "alignlab_rlaif",
    "method.sft": "alignlab_rlhf.sft",
    "method.reward_model": "alignlab_rlhf.reward_model",
    "method.process_reward_model": "alignlab_rlhf.process_reward_model",
    "method.ppo": "alignlab_rlhf.ppo",
    "method.dpo": "alignlab_dpo",
}


def test_the_sdist_holds_what_a_build_needs(built):
    with tarfile.open(built.sdist) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {
        "LICENSE",
        "constraints.txt",
        "csrc/ops.cpp",
        "csrc/cpu/gae.cpp",
        "csrc/math/gae.h",
        "plugins/rlhf/pyproject.toml",
        "plugins/cai/src/alignlab_cai/__init__.py",
        "recipes/hh.yaml",
        "setup.py",
    } <= names


def test_the_wheel_holds_the_engine_the_plugins_and_the_kernels_sources_in_one_place(built):
    names = zipfile.ZipFile(built.wheel).namelist()
    metadata = f"{built.wheel.name.split('-py')[0].split('-cp')[0]}.dist-info"
    assert {name.split("/")[0] for name in names} == {
        "alignlab",
        "alignlab_rlhf",
        "alignlab_dpo",
        "alignlab_rlaif",
        "alignlab_cai",
        metadata,
    }
    assert {"alignlab/py.typed", "alignlab/recipes/demo.yaml", "alignlab_rlhf/py.typed"} <= set(names)
    read = {
        "data/world/compare.txt",
        "data/world/constitution.yaml",
        "rewards/judges/compare.txt",
        "rewards/judges/rate.txt",
    }
    assert {*(f"alignlab/{name}" for name in read), "alignlab_cai/constitution.yaml"} <= set(names)
    sources = {name for name in names if name.endswith((".cpp", ".h", ".cu", ".cuh"))}
    # What `alignlab kernels build` compiles where the wheel came without an extension.
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    assert sources == {f"alignlab/{name}" for name in there}


def test_the_wheel_has_the_kernels_where_there_is_a_compiler(built):
    has_extension = any(name.startswith("alignlab/_C.") and "pyi" not in name for name in built_names(built))
    assert has_extension == bool(shutil.which("c++"))


def test_the_wheel_has_the_entry_points_of_the_plugins(built):
    text = zipfile.ZipFile(built.wheel).read(next(n for n in built_names(built) if n.endswith("entry_points.txt")))
    lines = text.decode().splitlines()
    assert "alignlab = alignlab.cli:main" in lines
    assert {f"{name} = {module}" for name, module in PLUGINS.items()} <= set(lines)


def test_a_fresh_environment_lists_the_plugins(installed):
    listed = json.loads(installed.run("alignlab", "plugins", "list", "--json").stdout)
    modules = {f"{row['kind']}.{row['name']}": row["module"] for row in listed if row["distribution"] == "alignlab"}
    assert modules == PLUGINS


def test_a_fresh_environment_runs_its_own_alignlab_and_its_kernels(installed):
    code = """
import torch
from alignlab import ops
print(ops.__file__)
print(ops.gae(torch.ones(1, 3), torch.zeros(1, 3), torch.ones(1, 3).bool(), lam=1.0)[0].tolist())
"""
    where, advantages = installed.run("python", "-c", code).stdout.splitlines()
    assert where.startswith(str(installed.site_packages))
    assert advantages == "[[3.0, 2.0, 1.0]]"


def test_help_and_the_list_of_plugins_import_no_torch(installed):
    code = """
import sys
from alignlab.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("torch" in sys.modules)
"""
    for arguments in (["--help"], ["plugins", "list"]):
        assert installed.run("python", "-c", code, *arguments).stdout.splitlines()[-1] == "False"


def built_names(built):
    return zipfile.ZipFile(built.wheel).namelist()
