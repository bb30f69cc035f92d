"""Build of the one wheel: the engine, the plugins below plugins/, and csrc/ where torch and a compiler are there."""

import os
import platform
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.resolve()
ENTRY_POINTS = "alignlab"  # the group that a third party's plugin uses too


def collect_plugins(root: Path) -> tuple[dict[str, str], list[str]]:
    """Return the plugins' packages (name: directory, relative to root) and their entry points.

    Raises RuntimeError when there is no plugin (an sdist without them must not build), when a plugin has no package
    or no src/, and when two plugins take one name.
    """
    projects = sorted(root.glob("plugins/*/pyproject.toml"))
    if not projects:
        raise RuntimeError(f"no plugins/*/pyproject.toml below {root}: alignlab without its methods must not be built")
    packages: dict[str, str] = {}
    entry_points: dict[str, str] = {}
    for project in projects:
        source = project.parent / "src"
        found = find_packages(str(source))
        if not found:
            raise RuntimeError(f"{project} has no package below {source}")
        declared = tomllib.loads(project.read_text())["project"].get("entry-points", {}).get(ENTRY_POINTS, {})
        doubled = (packages.keys() & set(found)) | (entry_points.keys() & declared.keys())
        if doubled:
            raise RuntimeError(f"{project}: {', '.join(sorted(doubled))} belongs to another plugin already")
        packages |= {name: str((source / name.replace(".", "/")).relative_to(root)) for name in found}
        entry_points |= declared
    return packages, [f"{name} = {target}" for name, target in entry_points.items()]


def why_no_extension() -> str | None:
    """Return what is missing to compile csrc/, or None."""
    if find_spec("torch") is None:
        return "torch is not there (pip's build isolation hides it: use --no-build-isolation)"
    compiler = "cl" if platform.system() == "Windows" else os.environ.get("CXX", "c++")
    if not shutil.which(shlex.split(compiler)[0]):
        return f"there is no C++ compiler ({compiler})"
    return None


def extension() -> dict[str, Any]:
    """Return setup()'s arguments for alignlab/_C.

    The libtorch stable ABI is all that csrc/ uses, so that one build serves every torch from 2.10 on. No -march: a
    wheel must run on machines other than the one that built it. pybind11's headers come with torch's.
    """
    import torch
    from torch.utils.cpp_extension import BuildExtension, include_paths, library_paths

    class BuildOrGoOn(BuildExtension):
        """A compile error ends in an install without the extension, not in no install."""

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                print(f"alignlab: the extension was not built, the reference ops will serve: {error}", file=sys.stderr)
                self.extensions: list[Extension] = []

    flags = (
        ["/O2", "/std:c++17"] if platform.system() == "Windows" else ["-O3", "-g0", "-std=c++17", "-fvisibility=hidden"]
    )
    module = Extension(
        "alignlab._C",
        sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.cpp")),
        include_dirs=[str(ROOT / "csrc"), *include_paths()],
        library_dirs=library_paths(),
        libraries=["torch_cpu"],
        depends=[str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.h")],
        extra_compile_args=flags,
        define_macros=[
            ("TORCH_TARGET_VERSION", "0x020a000000000000"),
            ("ALIGNLAB_FLAGS", f'"{" ".join(flags)}"'),
            ("ALIGNLAB_TORCH", f'"{torch.__version__}"'),
        ],
        language="c++",
    )
    return {"ext_modules": [module], "cmdclass": {"build_ext": BuildOrGoOn}}


def main() -> None:
    """Run setuptools."""
    plugins, entry_points = collect_plugins(ROOT)
    missing = why_no_extension()
    if missing:
        print(f"alignlab: without the C++ extension, the reference ops will serve: {missing}", file=sys.stderr)
    setup(
        packages=[*find_packages(str(ROOT), include=["alignlab", "alignlab.*"]), *plugins],
        package_dir=plugins,
        package_data={
            "": ["py.typed"],
            "alignlab": ["recipes/*.yaml", "data/world/*.txt", "data/world/*.yaml", "rewards/judges/*.txt"],
            "alignlab_cai": ["*.yaml"],
        },
        entry_points={"console_scripts": ["alignlab = alignlab.cli:main"], ENTRY_POINTS: entry_points},
        **({} if missing else extension()),
    )


main()
