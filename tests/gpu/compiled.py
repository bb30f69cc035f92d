"""make cuda-check: compile csrc/cuda with warnings as errors, and print what every kernel takes. Needs no GPU."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from alignlab.ops import _extension, build

FLAGS = ("-Werror", "all-warnings", "-Xptxas", "-v")
ARCHITECTURES = "8.0;9.0"

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(sm_\w+)'")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel on one architecture."""

    name: str
    architecture: str
    registers: int
    shared_bytes: int
    spilled_bytes: int


def compile_kernels(directory: Path | None = None) -> list[Kernel]:
    """Compile csrc/cuda for TORCH_CUDA_ARCH_LIST, or for sm_80 and sm_90. Raises build.BuildError."""
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
    csrc = _extension.sources()
    sources = sorted(csrc.glob("cuda/*.cu"))
    objects = build.build(
        "cuda-check", sources, include_dirs=[csrc], cuda_flags=FLAGS, compile_only=True, directory=directory
    )
    return kernels_of((objects / "log.txt").read_text())


def kernels_of(log: str) -> list[Kernel]:
    """Return the kernels that a compiler's output tells of."""
    found = []
    for part in re.split(r"(?=Compiling entry function)", log)[1:]:
        entry, spills, used, shared = (pattern.search(part) for pattern in (ENTRY, SPILLS, USED, SHARED))
        assert entry and spills and used, f"ptxas has another way of saying this now:\n{part}"
        found.append(
            Kernel(
                name=_demangle(entry[1]),
                architecture=entry[2],
                registers=int(used[1]),
                shared_bytes=int(shared[1]) if shared else 0,
                spilled_bytes=int(spills[1]) + int(spills[2]),
            )
        )
    return sorted(found, key=lambda kernel: (kernel.name, kernel.architecture))


def _demangle(symbol: str) -> str:
    """Return "token_logp_forward<float, true>"."""
    try:
        name = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return symbol
    return re.sub(r"^void |\w+::|\(anonymous namespace\)::|\(alignlab::\w+\)|\([^()]*\)$", "", name)


def main() -> int:
    """Print a line a kernel and architecture; 1 where one spills."""
    kernels = compile_kernels()
    print(f"{'kernel':56}{'':8}{'registers':>10}{'shared':>8}{'spilled':>8}")
    for kernel in kernels:
        print(
            f"{kernel.name:56}{kernel.architecture:8}{kernel.registers:10}"
            f"{kernel.shared_bytes:8}{kernel.spilled_bytes:8}"
        )
    spilling = [kernel for kernel in kernels if kernel.spilled_bytes > 0]
    for kernel in spilling:
        print(f"{kernel.name} spills registers on {kernel.architecture}", file=sys.stderr)
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
