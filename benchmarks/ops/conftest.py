"""Times contenders in turns: one step of every other one before each of ours, which is what pytest-benchmark times."""

import gc
import json
import os
import statistics
import time

import pytest
import torch
from peers import PEERS

from alignlab.ops import bench, workloads

REFERENCE, OURS = "reference", "native"
SECONDS = float(os.environ.get("ALIGNLAB_BENCH_SECONDS", "2.5"))  # for all contenders of a workload together
MAX_ROUNDS = 40


def pytest_configure(config):
    torch.set_num_threads(int(os.environ.get("ALIGNLAB_BENCH_THREADS", "2")))


@pytest.fixture(scope="session")
def bandwidth():
    return bench.copy_bandwidth("cpu")


@pytest.fixture
def compare(benchmark, bandwidth):
    def run(workload):
        benchmark.group = workload.name
        inputs = workload.prepare("cpu")
        functions = bench.contenders(workload) | PEERS.get((workload.op, workload.mode), {})
        if OURS not in functions:
            pytest.skip("alignlab was built without csrc/")
        steps = {name: lambda f=f: workload.step(f, inputs) for name, f in functions.items()}
        for step in steps.values():
            step()  # compiles
        once = {name: clock(step) for name, step in steps.items()}
        num_rounds = max(5, min(MAX_ROUNDS, int(SECONDS / sum(once.values()))))
        times = {name: [] for name in steps}

        def others():
            for name, step in steps.items():
                if name != OURS:
                    times[name].append(clock(step))

        def ours():
            times[OURS].append(clock(steps[OURS]))

        benchmark.pedantic(ours, setup=others, rounds=num_rounds)
        medians = {name: statistics.median(found) * 1e3 for name, found in times.items()}
        rate = workload.num_bytes / medians[OURS] / 1e6
        benchmark.extra_info.update(
            workload=workload.name,
            op=workload.op,
            regime="huge pages" if os.environ.get("THP_MEM_ALLOC_ENABLE") == "1" else "default",
            median_ms=medians,
            peak_mb={name: bench._peak(step, "cpu") / 1e6 for name, step in steps.items()},
            num_bytes=workload.num_bytes,
            gb_per_s=rate,
            copy_gb_per_s=bandwidth,
            bandwidth_share=rate / bandwidth,
            num_rounds=num_rounds,
        )
        gc.collect()

    return run


def clock(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def pytest_generate_tests(metafunc):
    """Give a file's test the workloads of the op that the file is named for."""
    if "workload" in metafunc.fixturenames:
        op = metafunc.module.__name__.rpartition(".")[2]
        found = list(workloads.workloads(op))
        metafunc.parametrize("workload", found, ids=[workload.name for workload in found])


def pytest_benchmark_update_json(config, benchmarks, output_json):
    output_json["alignlab"] = [entry.get("extra_info", {}) for entry in output_json["benchmarks"]]
    json.dumps(output_json["alignlab"])
