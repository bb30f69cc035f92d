"""How the cost of an op grows with rows, vocabulary and steps: native and reference, as JSON and a plot."""

import json
import statistics
import time
from pathlib import Path

import torch

from alignlab.ops.workloads import call

RESULTS = Path(__file__).parent.parent / "results"
BUDGET = 0.4  # seconds for every point


def logits(n, v):
    return torch.randn(n, v), torch.randint(v, (n,))


def tokens(n, t):
    return torch.randn(n, t), torch.randn(n, t), torch.rand(n, t) < 0.9


AXES = {
    "token_logp, V (256 rows)": ("token_logp", logits, [(256, 2**k) for k in range(8, 18)], 1),
    "token_logp, N (V = 32768)": ("token_logp", logits, [(2**k, 32768) for k in range(3, 12)], 0),
    "gae, T (64 rows)": ("gae", tokens, [(64, 2**k) for k in range(5, 16)], 1),
    "gae, N (T = 512)": ("gae", tokens, [(2**k, 512) for k in range(3, 14)], 0),
}


def milliseconds(function, inputs):
    function(*inputs)
    times, end = [], time.perf_counter() + BUDGET
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        function(*inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def main() -> None:
    torch.set_num_threads(2)
    found = {}
    for title, (op, make, sizes, axis) in AXES.items():
        found[title] = {backend: [] for backend in ("native", "reference")}
        for size in sizes:
            inputs = make(*size)
            for backend, points in found[title].items():
                points.append((size[axis], milliseconds(call(op, backend), inputs)))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ops-growth.json").write_text(json.dumps(found, indent=1) + "\n")
    plot(found)


def plot(found) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(4 * len(found), 3.4), layout="constrained")
    for panel, (title, lines) in zip(panels, found.items(), strict=True):
        for backend, points in lines.items():
            panel.loglog([x for x, _ in points], [y for _, y in points], marker="o", label=backend)
        panel.set_title(title)
        panel.set_ylabel("milliseconds")
    panels[0].legend()
    figure.savefig(RESULTS / "ops-growth.png", dpi=110)


if __name__ == "__main__":
    main()
