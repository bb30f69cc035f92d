"""Many certificates: every method with every seed, in several processes if asked."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from alignlab.certify.bench import Bench
from alignlab.certify.certify import Certificate, certify
from alignlab.certify.request import Request
from alignlab.certify.world import WorldSize

Job = tuple[Request, Bench, float]


def jobs(
    requests: Sequence[Request],
    seeds: Sequence[int],
    output: Path,
    *,
    beta: float,
    hidden_size: int = 48,
    size: WorldSize | None = None,
    hooks: Sequence[str] = (),
) -> list[Job]:
    """Return what is to be trained, method by method."""
    worlds = [(size or WorldSize()).model_copy(update={"seed": seed}) for seed in seeds]
    benches = [Bench(w, hidden_size, output / f"seed-{w.seed}-hidden-{hidden_size}", tuple(hooks)) for w in worlds]
    return [(request, bench, beta) for request in requests for bench in benches]


def certify_all(todo: Sequence[Job], num_processes: int = 1) -> Iterator[Certificate]:
    """Yield a certificate for each job, in order; each process has one thread."""
    benches = {bench.directory: bench for _, bench, _ in todo}.values()  # each is prepared once: a run locks its output
    if num_processes == 1:
        for bench in benches:
            bench.prepare()
        yield from map(_certify, todo)
        return
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(num_processes, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(Bench.prepare, benches))
        yield from pool.map(_certify, todo)


def _certify(job: Job) -> Certificate:
    request, bench, beta = job
    return certify(bench, request, beta)
