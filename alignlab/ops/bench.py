"""Times implementations of an op against each other: rounds that take turns, so that a busy machine is so for all.

Imports torch alone. `alignlab bench` prints and stores what it finds; benchmarks/ops adds what peers do.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

import alignlab.ops as ops
from alignlab.ops.workloads import Step, Workload, call, workloads

COMPILED = "torch.compile"


@dataclass(frozen=True)
class Timing:
    """What one contender took for one workload."""

    workload: str
    op: str
    contender: str
    median_ms: float
    best_ms: float
    num_rounds: int
    num_bytes: int
    gb_per_s: float
    bandwidth_share: float  # of the copy bandwidth that the same run measured
    peak_mb: float  # memory that a step takes above its inputs
    error: float  # largest difference of the first result from fp64, over its size

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def bench(op: str, device: str = "cpu", *, seconds: float = 2.0) -> Iterator[Timing]:
    """Time every implementation of an op, and torch.compile of the reference, on all its workloads."""
    bandwidth = copy_bandwidth(device)
    for workload in workloads(op, device):
        inputs = workload.prepare(device)
        yield from time_workload(workload, inputs, contenders(workload), device, bandwidth, seconds)
        del inputs
        gc.collect()


def contenders(workload: Workload) -> dict[str, Callable[..., Any]]:
    """Return the functions that a workload is timed with, by name: the op's backends, and the compiled reference."""
    found = {name: call(workload.op, name, **workload.settings) for name in ops.implementations(workload.op)}
    if workload.mode.endswith("in place") and "native" in found:
        found["native"] = call(workload.op, "native", inplace_backward=True, **workload.settings)
    if workload.op not in ("gae", "linear_logp"):  # a loop over T, and a checkpoint a chunk, unroll for minutes
        torch.compiler.reset()  # past 8 recompilations of one function, it would run as it is
        found[COMPILED] = torch.compile(call(workload.op, "reference", **workload.settings), dynamic=False)
    return found


def time_workload(
    workload: Workload,
    inputs: tuple[Tensor, ...],
    functions: Mapping[str, Callable[..., Any]],
    device: str,
    bandwidth: float,
    seconds: float,
) -> list[Timing]:
    """Time functions on one workload in turns, for about `seconds` each, and at least 5 rounds."""
    names = list(functions)
    errors = {name: _error(workload, inputs, functions[name]) for name in names}

    def stepper(name: str) -> Step:
        return lambda: workload.step(functions[name], inputs)

    steps = {name: stepper(name) for name in names}
    seconds_for = {name: _time(steps[name], device) for name in names}  # the first call compiles
    seconds_for = {name: _time(steps[name], device) for name in names}
    peaks = {name: _peak(steps[name], device) for name in names}
    num_rounds = max(5, min(100, int(seconds * len(names) / sum(seconds_for.values()))))
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(num_rounds):
        for name in names:
            times[name].append(_time(steps[name], device))
    found = []
    for name in names:
        median = statistics.median(times[name])
        rate = workload.num_bytes / median / 1e9
        found.append(
            Timing(
                workload=workload.name,
                op=workload.op,
                contender=name,
                median_ms=median * 1e3,
                best_ms=min(times[name]) * 1e3,
                num_rounds=num_rounds,
                num_bytes=workload.num_bytes,
                gb_per_s=rate,
                bandwidth_share=rate / bandwidth,
                peak_mb=peaks[name] / 1e6,
                error=errors[name],
            )
        )
    return found


def copy_bandwidth(device: str, num_bytes: int = 2**28) -> float:
    """Return what copying memory that is mapped already moves, read and written, in GB/s."""
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.ones_like(source)
    best = min(_time(lambda: target.copy_(source), device) for _ in range(10))
    return 2 * num_bytes / best / 1e9


def _time(step: Step, device: str) -> float:
    if device == "cpu":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _peak(step: Step, device: str) -> float:
    """Return the memory that a step allocates at its highest, in bytes."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return float(torch.cuda.max_memory_allocated() - before)
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return float(peak)


def _error(workload: Workload, inputs: tuple[Tensor, ...], function: Callable[..., Any]) -> float:
    """Return how far the first result is from the reference's in fp64, over the largest; on a few rows."""
    num_rows = 16 if workload.op in ("token_logp", "kl_divergence") else len(inputs[0])
    few = [x[:num_rows] if len(x) == len(inputs[0]) else x for x in inputs]
    wide = [x.double() if x.is_floating_point() else x for x in few]
    with torch.no_grad():
        found, truth = function(*few), call(workload.op, "reference", **workload.settings)(*wide)
    found, truth = (x[0] if isinstance(x, tuple) else x for x in (found, truth))
    return float((found.double() - truth).abs().max() / truth.abs().max())
