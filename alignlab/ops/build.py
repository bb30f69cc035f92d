"""Compile C++ and CUDA sources against libtorch's stable ABI: alignlab's own kernels, and those of third parties.

    from alignlab.ops import build
    build.load("my_kernels", ["my_gae.cpp"])     # then torch.ops.<your namespace>.<your op> is there

Sources register their ops with STABLE_TORCH_LIBRARY (torch/csrc/stable): one build serves every torch from 2.10 on.
What is built is kept in a directory named by a hash of everything that goes into it, and moved there in one step: no
lock can stay behind. setup.py loads this file by its path, where neither alignlab nor its dependencies are installed.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

TORCH_TARGET = "0x020a000000000000"  # the oldest torch that a build runs with: 2.10
FLAGS = ("-O3", "-g0", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall")
CUDA_FLAGS = (
    "-O3",
    "-std=c++17",
    "-Xcompiler",
    "-fPIC,-fvisibility=hidden,-Wall,-Wno-unknown-pragmas",
    "-diag-suppress",
    "186",
)
CUDA_ARCHITECTURES = "8.0;9.0+PTX"
# A source whose name ends so is compiled for that instruction set; who calls it asks the processor first. (GCC's own
# headers for AVX-512 warn of themselves.)
ISA_FLAGS = {
    "_avx2": ("-mavx2", "-mfma", "-mf16c"),
    "_avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c", "-Wno-maybe-uninitialized"),
}
HEADERS = ("*.h", "*.hpp", "*.cuh", "*.inl")


class BuildError(RuntimeError):
    """There is no compiler, or it failed: the message ends in what it said."""


def load(name: str, sources: Sequence[str | Path], **options: object) -> Path:
    """Build (see `build`) and load a library, so that its ops are in `torch.ops`. Return its path."""
    import torch

    library = build(name, sources, **options)  # type: ignore[arg-type]  # they are build's own
    torch.ops.load_library(library)
    return library


def build(
    name: str,
    sources: Sequence[str | Path],
    *,
    include_dirs: Sequence[str | Path] = (),
    flags: Sequence[str] = (),
    cuda_flags: Sequence[str] = (),
    defines: Sequence[str] = (),
    python_module: bool = False,
    compile_only: bool = False,
    directory: str | Path | None = None,
) -> Path:
    """Compile sources (.cpp, and .cu with nvcc) into a library and return its path; at once if that was done before.

    `directory` is where builds are kept: cache_directory() if none is given. `python_module` names the library as an
    extension module of this Python; `compile_only` stops before the link and returns the directory of the objects.
    Raises BuildError when a compiler or ninja is missing, or when it fails.
    """
    paths = [Path(source).resolve() for source in sources]
    includes = [Path(path).resolve() for path in include_dirs]
    commands = _commands(paths, includes, (*FLAGS, *flags), (*CUDA_FLAGS, *cuda_flags), defines, python_module)
    key = _key(paths, includes, commands, python_module)
    home = Path(directory or cache_directory()) / f"{name}-{key}"
    suffix = sysconfig.get_config_var("EXT_SUFFIX") if python_module else ".so"
    library = home / f"{name}{suffix}"
    result = home if compile_only else library
    if result.exists():
        return result
    home.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
    try:
        _ninja(scratch, paths, commands, None if compile_only else library.name)
        if not result.exists():
            shutil.rmtree(home, ignore_errors=True)  # what another kind of build left there
            try:
                scratch.rename(home)
            except OSError:
                if not result.exists():  # else another process was faster, and its result is the same
                    raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def cache_directory() -> Path:
    """Return where builds are kept: $ALIGNLAB_CACHE/kernels, or alignlab/kernels in the user's cache directory."""
    own = os.environ.get("ALIGNLAB_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignlab"
    return base / "kernels"


def missing_tools() -> str | None:
    """Return what is missing to compile C++ against torch, or None."""
    if platform.system() == "Windows":
        return "the kernels are written for GCC and Clang, and are not built on Windows"
    if importlib.util.find_spec("torch") is None:
        return "torch is not there (pip's build isolation hides it: use --no-build-isolation)"
    if not shutil.which(shlex.split(_compiler())[0]):
        return f"there is no C++ compiler ({_compiler()})"
    if _find_ninja() is None:
        return "there is no ninja (pip install ninja)"
    return None


def cuda_home() -> Path | None:
    """Return the CUDA toolkit whose nvcc and headers are here, or None. Whether a GPU is visible is not asked."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda", Path(nvcc).resolve().parents[1] if nvcc else None]
    for home in (Path(home) for home in homes if home):
        headers = [home / "include" / "cuda_runtime.h", *home.glob("targets/*/include/cuda_runtime.h")]
        if (home / "bin" / "nvcc").is_file() and any(header.is_file() for header in headers):
            return home
    return None


def architecture_flags(wanted: str | None = None) -> tuple[str, ...]:
    """Return nvcc's flags for TORCH_CUDA_ARCH_LIST, or for sm_80, sm_90 and PTX if it is not set."""
    wanted = wanted or os.environ.get("TORCH_CUDA_ARCH_LIST") or CUDA_ARCHITECTURES
    flags: list[str] = []
    for architecture in re.split(r"[;\s]+", wanted.strip()):
        match = re.fullmatch(r"(\d+)\.(\d+[af]?)(\+PTX)?", architecture)
        if not match:
            raise BuildError(f"TORCH_CUDA_ARCH_LIST wants numbers such as {CUDA_ARCHITECTURES!r}, got {architecture!r}")
        number = match[1] + match[2]
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if match[3]:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return tuple(flags)


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


def _find_ninja() -> str | None:
    # In a virtual environment that is not activated, it lies beside the interpreter.
    return shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))


def _torch_directory() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise BuildError("torch is not there")
    return Path(spec.origin).parent


def torch_version() -> str:
    """Return the installed torch's version without importing it."""
    text = (_torch_directory() / "version.py").read_text()
    match = re.search(r"__version__ = '([^']+)'", text)
    return match[1] if match else "unknown"


def torch_has_cuda() -> bool:
    """Return whether the installed torch can run CUDA kernels (a CPU-only torch cannot even load them)."""
    return (_torch_directory() / "lib" / "libtorch_cuda.so").exists()


def _commands(
    sources: Iterable[Path],
    includes: Iterable[Path],
    flags: Sequence[str],
    cuda_flags: Sequence[str],
    defines: Sequence[str],
    python_module: bool,
) -> dict[str, list[str]]:
    """Return the command line (without input and output) for every source by path, and for "link"."""
    missing = missing_tools()
    if missing:
        raise BuildError(missing)
    torch = _torch_directory()
    shared = [f"-I{path}" for path in includes] + ["-isystem", str(torch / "include")]
    shared += ["-isystem", sysconfig.get_path("include")] if python_module else []
    shared += [f"-D{define}" for define in (f"TORCH_TARGET_VERSION={TORCH_TARGET}", *defines)]
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    home = cuda_home()
    commands: dict[str, list[str]] = {}
    for source in sources:
        if source.suffix == ".cu":
            if home is None:
                raise BuildError(f"{source.name} wants nvcc and CUDA's headers: set CUDA_HOME")
            host = ["-ccbin", os.environ["CXX"]] if "CXX" in os.environ else []
            nvcc = [str(home / "bin" / "nvcc"), *host, *cuda_flags, *architecture_flags(), "-DUSE_CUDA"]
            commands[str(source)] = [*nvcc, *shared]
        else:
            isa = next((ISA_FLAGS[end] for end in ISA_FLAGS if x86 and source.stem.endswith(end)), ())
            commands[str(source)] = [*shlex.split(_compiler()), *flags, *isa, *shared]
    has_cuda = any(source.endswith(".cu") for source in commands)
    libraries = ["torch_cpu", *(["torch_cuda"] if has_cuda and torch_has_cuda() else [])]
    link = [*shlex.split(_compiler()), "-shared", *(flag for flag in flags if flag.startswith("-fsanitize"))]
    link += ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    link += [f"-L{torch / 'lib'}", *(f"-l{library}" for library in libraries)]
    if has_cuda and home is not None:
        link += [*(f"-L{path}" for path in (home / "lib64", home / "lib") if path.is_dir()), "-lcudart"]
    return commands | {"link": link}


def _key(sources: Iterable[Path], includes: Iterable[Path], commands: dict[str, list[str]], python_module: bool) -> str:
    digest = hashlib.sha256()
    headers = {path for top in includes for pattern in HEADERS for path in top.rglob(pattern)}
    headers |= {path for source in sources for pattern in HEADERS for path in source.parent.glob(pattern)}
    for path in sorted([*sources, *headers]):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    abi = sysconfig.get_config_var("SOABI") if python_module else ""
    for fact in (repr(sorted(commands.items())), _compiler_version(), torch_version(), platform.machine(), str(abi)):
        digest.update(f"{fact}\0".encode())
    return digest.hexdigest()[:16]


def _compiler_version() -> str:
    done = subprocess.run([*shlex.split(_compiler()), "--version"], capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"{_compiler()} --version failed: {done.stderr.strip() or done.returncode}")
    return done.stdout.splitlines()[0]


def _ninja(directory: Path, sources: Sequence[Path], commands: dict[str, list[str]], library: str | None) -> None:
    """Write and run a build.ninja. Objects are named by number, so that a/x.cpp and b/x.cpp do not meet."""

    def escape(text: str) -> str:
        return text.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    lines = [
        "rule compile",
        "  command = $run -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        "  command = $run",
    ]
    objects = [f"{i}-{source.stem}.o" for i, source in enumerate(sources)]
    for source, target in zip(sources, objects, strict=True):
        command = shlex.join(commands[str(source)]).replace("$", "$$")
        lines += [f"build {escape(target)}: compile {escape(str(source))}", f"  run = {command}"]
    if library is not None:
        # The libraries come after the objects that need them.
        compiler, *rest = commands["link"]
        command = shlex.join([compiler, "-o", library, *objects, *rest]).replace("$", "$$")
        lines += [f"build {escape(library)}: link {' '.join(map(escape, objects))}", f"  run = {command}"]
    (directory / "build.ninja").write_text("\n".join(lines) + "\n")
    ninja = _find_ninja()
    assert ninja is not None  # missing_tools() was asked
    done = subprocess.run([ninja, *_jobs()], cwd=directory, capture_output=True, text=True)
    (directory / "log.txt").write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        raise BuildError(f"the compiler failed:\n{(done.stdout + done.stderr).strip()[-4000:]}")
    for part in objects if library is not None else ():
        (directory / part).unlink()


def _jobs() -> list[str]:
    return ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
