"""How alignlab's own kernels are built: from csrc/, into the module alignlab._C.

setup.py loads this file by its path, like build.py.
"""

import hashlib
import os
import sysconfig
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def sources() -> Path:
    """Return csrc/: inside the installed package, or beside it in a clone."""
    installed = HERE.parent / "csrc"
    return installed if installed.is_dir() else HERE.parents[1] / "csrc"


def build_extension(build: ModuleType, directory: str | Path | None = None, flags: tuple[str, ...] = ()) -> Path:
    """Compile csrc/ with alignlab.ops.build, which is handed in, and return the library. Raises build.BuildError."""
    top = sources()
    wants_cuda = builds_cuda(build)
    files = [*sorted(top.glob("*.cpp")), *sorted(top.glob("cpu/*.cpp"))]
    files += sorted(top.glob("cuda/*.cu")) if wants_cuda else []
    architectures = " ".join(build.architecture_flags()) if wants_cuda else "none"
    facts = {
        "ALIGNLAB_FLAGS": " ".join((*build.FLAGS, *flags)),
        "ALIGNLAB_TORCH": build.torch_version(),
        "ALIGNLAB_CUDA_ARCHITECTURES": architectures,
    }
    defines = [f'{name}="{fact}"' for name, fact in facts.items()]
    library: Path = build.build(
        "_C", files, include_dirs=[top], flags=flags, defines=defines, python_module=True, directory=directory
    )
    return library


def builds_cuda(build: ModuleType) -> bool:
    """Return whether the CUDA kernels are built: ALIGNLAB_CUDA=1 or 0, else where nvcc, its headers and torch's are."""
    asked = os.environ.get("ALIGNLAB_CUDA")
    if asked in ("0", "1"):
        return asked == "1"
    if not any(sources().glob("cuda/*.cu")):
        return False
    return build.cuda_home() is not None and bool(build.torch_has_cuda())


def find_built(directory: Path | None = None) -> Path | None:
    """Return what `alignlab kernels build` compiled for this Python and these sources, or None. Runs no compiler."""
    note = _note(directory)
    if not note.is_file():
        return None
    digest, _, path = note.read_text().strip().partition(" ")
    return Path(path) if digest == _digest() and Path(path).is_file() else None


def remember_built(library: Path, directory: Path | None = None) -> None:
    """Let `find_built` find a library."""
    note = _note(directory)
    fresh = note.with_suffix(f".{os.getpid()}")
    fresh.write_text(f"{_digest()} {library}\n")
    fresh.replace(note)


def _note(directory: Path | None) -> Path:
    from alignlab.ops.build import cache_directory

    return (directory or cache_directory()) / f"built-{sysconfig.get_config_var('SOABI')}"


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(sources().rglob("*.*")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def is_installed() -> bool:
    """Return whether the extension lies in the package itself, from where it is imported first."""
    return any(HERE.parent.glob("_C.*.so"))
