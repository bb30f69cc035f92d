"""make sanitize: build csrc/ for AddressSanitizer and UndefinedBehaviorSanitizer, and run the op tests on it."""

import os
import subprocess
import sys
from pathlib import Path

from alignlab.ops import _extension, build

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g1")
TESTS = ["test_native.py", "test_gae.py", "test_token_logp.py", "test_kl_divergence.py", "test_linear_logp.py"]


def runtime(name: str) -> str:
    compiler = os.environ.get("CXX", "c++")
    return subprocess.run(
        [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> int:
    library = _extension.build_extension(build, flags=FLAGS)
    preload = " ".join(runtime(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so"))
    environment = os.environ | {
        "ALIGNLAB_KERNELS": str(library),
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    tests = [str(Path(__file__).parent / "unit" / "ops" / name) for name in TESTS]
    for capability in ("baseline", "avx2", "avx512"):
        environment["ALIGNLAB_CPU_CAPABILITY"] = capability
        print(f"== {capability}", flush=True)
        code = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], env=environment)
        if code.returncode != 0:
            return code.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
