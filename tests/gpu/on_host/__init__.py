"""csrc/cuda on a CPU: see threads.h."""

import hashlib
from pathlib import Path

from alignlab.ops import _extension, build

HERE = Path(__file__).resolve().parent
# -O1 compiles in half the time of -O3. The 16-byte accesses are of another type than what they read.
FLAGS = ("-O1", "-fno-strict-aliasing", "-Wno-unknown-pragmas", "-Wno-maybe-uninitialized")


def build_on_host(flags: tuple[str, ...] = ()) -> Path:
    """Compile csrc/cuda for this CPU into a library to stand for alignlab._C, and return its path."""
    csrc = _extension.sources()
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(csrc.glob("cuda/*.cu")))).hexdigest()
    facts = {
        "ALIGNLAB_FLAGS": " ".join((*FLAGS, *flags)),
        "ALIGNLAB_TORCH": build.torch_version(),
        "ALIGNLAB_CUDA_ARCHITECTURES": f"none: on the host {digest}",  # kernels.cpp includes what it is the digest of
    }
    return build.build(
        "_C",
        [HERE / "kernels.cpp", csrc / "ops.cpp", csrc / "python.cpp"],
        include_dirs=[HERE, csrc],
        flags=(*FLAGS, *flags),
        defines=[f'{name}="{fact}"' for name, fact in facts.items()],
        python_module=True,
    )
