"""Build of the one wheel: the engine, the plugins below plugins/, and csrc/ where torch and a compiler are there."""

import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

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


def load_tool(name: str) -> ModuleType:
    """Return a module of alignlab/ops by its path: alignlab itself, and torch, may not be importable here."""
    spec = spec_from_file_location(f"alignlab_{name}", ROOT / "alignlab" / "ops" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD, EXTENSION = load_tool("build"), load_tool("_extension")


class BuildOrGoOn(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Compile csrc/ as `alignlab kernels build` does. A compile error ends in an install without the extension."""

    def build_extension(self, ext: Extension) -> None:
        """Build the one extension there is."""
        target = Path(self.get_ext_fullpath(ext.name))
        try:
            library = EXTENSION.build_extension(BUILD, Path(self.build_temp).resolve())
        except BUILD.BuildError as error:
            print(f"alignlab: the extension was not built, the reference ops will serve: {error}", file=sys.stderr)
            self.extensions: list[Extension] = []
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, target)


class BuildWithSources(build_py):  # type: ignore[misc]
    """Put csrc/ into the package, so that `alignlab kernels build` can compile it where it is installed."""

    def run(self) -> None:
        """Copy the packages, and csrc/."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(ROOT / "csrc", Path(self.build_lib) / "alignlab" / "csrc", dirs_exist_ok=True)


def main() -> None:
    """Run setuptools."""
    plugins, entry_points = collect_plugins(ROOT)
    missing = BUILD.missing_tools()
    if missing:
        print(f"alignlab: without the C++ extension, the reference ops will serve: {missing}", file=sys.stderr)
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*") if path.is_file())
    setup(
        packages=[*find_packages(str(ROOT), include=["alignlab", "alignlab.*"]), *plugins],
        package_dir=plugins,
        package_data={
            "": ["py.typed"],
            "alignlab": [
                "recipes/*.yaml",
                "data/world/*.txt",
                "data/world/*.yaml",
                "rewards/judges/*.txt",
                "templates/**/*.tmpl",
            ],
            "alignlab_cai": ["*.yaml"],
        },
        entry_points={
            "console_scripts": ["alignlab = alignlab.cli:main"],
            "pytest11": ["alignlab = alignlab.testing.pytest_plugin"],
            ENTRY_POINTS: entry_points,
        },
        # BuildOrGoOn knows its sources; here they say what the build depends on.
        ext_modules=[] if missing else [Extension("alignlab._C", ["csrc/ops.cpp"], depends=sources)],
        cmdclass={"build_ext": BuildOrGoOn, "build_py": BuildWithSources},
    )


main()
