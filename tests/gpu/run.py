"""make gpu: build for the GPU, run the op tests and tests/gpu there, and time the ops.

Needs torch, pluggy, pytest, pytest-benchmark, ninja and pybind11 (torch's wheels have its headers), nvcc, and no
installed alignlab: the clone is put on the path. Writes benchmarks/results/<device>.json.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
NEEDS_MORE = {"test_native.py": "hypothesis"}  # tests, and the package that they want


def pytest_command(*tests: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]


def op_tests() -> list[str]:
    """Return the op tests that run with what is installed; what is left out is said."""
    left_out = []
    for name, package in NEEDS_MORE.items():
        if importlib.util.find_spec(package) is None:
            print(f"left out: tests/unit/ops/{name}, which wants {package}", flush=True)
            left_out.append(f"--ignore=tests/unit/ops/{name}")
    return ["tests/unit/ops", *left_out]


def run(command: list[str], environment: dict[str, str]) -> None:
    print("==", " ".join(command), flush=True)
    code = subprocess.run(command, env=environment, cwd=ROOT).returncode
    if code != 0:
        sys.exit(code)


def bench(path: Path) -> None:
    """Run `alignlab bench --device cuda`, which needs nothing but torch, without the command line, which does."""
    from alignlab.cli import bench

    parser = argparse.ArgumentParser()
    bench.configure(parser)
    bench.run(parser.parse_args(["--device", "cuda", "--output", str(path)]))


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("make gpu wants a GPU, and torch sees none")
    sys.path.insert(0, str(ROOT))
    from alignlab.ops import _extension, build

    major, minor = torch.cuda.get_device_capability()
    os.environ |= {"ALIGNLAB_CUDA": "1"}
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", f"{major}.{minor}")
    library = _extension.build_extension(build)
    os.environ |= {"ALIGNLAB_KERNELS": str(library), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    device = re.sub(r"\W+", "_", torch.cuda.get_device_name()).strip("_").lower()
    print(f"built {library} for {device} ({major}.{minor}), torch {torch.__version__}", flush=True)
    run(pytest_command("tests/gpu/test_kernels.py", "tests/gpu/test_gpu.py", *op_tests()), dict(os.environ))
    sanitizer = shutil.which("compute-sanitizer")
    for tool in ("memcheck", "racecheck", "synccheck") if sanitizer else ():
        # Torch's caching allocator would hide what is read beside a tensor.
        environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        tests = pytest_command("tests/gpu/test_kernels.py", "-k", "rows_of_every_length or scans_rows or in_place")
        run([str(sanitizer), "--tool", tool, "--error-exitcode", "1", *tests], environment)
    if not sanitizer:
        print("left out: compute-sanitizer is not here", flush=True)
    # In a process of its own: this one has loaded no kernels yet.
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests' / 'gpu')!r}); import run; from pathlib import Path; "
    code += f"run.bench(Path({str(ROOT / 'benchmarks' / 'results' / f'{device}.json')!r}))"
    run([sys.executable, "-c", code], dict(os.environ))


if __name__ == "__main__":
    main()
