"""make bench-ops: benchmarks/ops in both memory regimes; JSON, a table and plots below benchmarks/results.

On a CPU, the page faults of fresh memory cost more than the arithmetic: so everything is timed with torch's default
allocation, and with huge pages (THP_MEM_ALLOC_ENABLE=1), each in a process of its own.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from alignlab.cli.bench import machine

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
OURS = "native"
REGIMES = {"default": "0", "huge pages": "1"}
# What is wanted on a CPU: (op, mode) or (op, mode, size): {baseline: (default, huge pages)}, times faster.
TARGETS = {
    ("token_logp", "forward"): {"reference": (9, 3), "torch.compile": (1.7, 1.7)},
    ("token_logp", "forward+entropy"): {"reference": (25, 12), "torch.compile": (3, 3)},
    ("token_logp", "forward+backward"): {"reference": (3, 2.3), "torch.compile": (2, 1.8)},
    ("token_logp", "forward+backward in place"): {"reference": (15, 3.5), "torch.compile": (10, 3)},
    ("kl_divergence", "forward"): {"reference": (25, 8), "torch.compile": (2.5, 2.3)},
    ("kl_divergence", "forward+backward in place"): {"reference": (12, 5), "torch.compile": (2.5, 1.4)},
    ("gae", "forward", "[256, 2048]"): {"reference": (500, 500), "doubling scan": (12, 12)},
    ("ppo_policy_loss", "forward+backward", "[64, 1024]"): {"reference": (25, 25), "torch.compile": (1.8, 1.8)},
    ("ppo_policy_loss", "forward+backward", "[512, 2048]"): {"reference": (20, 20), "torch.compile": (1.5, 1.5)},
    ("linear_logp", "forward+backward"): {
        "eager": (1.7, 1.7),
        "TRL, chunks": (5, 5),
        "three products": (1 / 1.15, 1 / 1.15),
    },
}
# What is wanted of the bandwidth that copying has in the same run.
SHARES = {
    "token_logp forward [2048, 50257] fp32": 0.7,
    "token_logp forward [2048, 50257] bf16": 0.5,
    "kl_divergence forward [2048, 50257] fp32": 0.7,
    "kl_divergence forward [2048, 50257] bf16": 0.5,
    "gae forward [256, 2048] fp32": 0.7,
}


def measure(files: list[str]) -> list[dict]:
    found = []
    for regime, flag in REGIMES.items():
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "found.json"
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--benchmark-json={output}"]
            command += [
                "--benchmark-columns=median,rounds",
                "-W",
                "default",
                "-o",
                "python_files=*.py",
                "--rootdir",
                str(HERE),
            ]
            environment = os.environ | {"THP_MEM_ALLOC_ENABLE": flag}
            print(f"== {regime}", flush=True)
            subprocess.run([*command, *files], check=True, env=environment, cwd=HERE)
            found += json.loads(output.read_text())["alignlab"]
    return found


def table(rows: list[dict]) -> str:
    """Return the numbers as Markdown: milliseconds, and how many times faster than each baseline, and its target."""
    lines = [
        "| op | memory | ms | GB/s (of copy) | peak MB (reference) | times faster than: found (wanted) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = row["median_ms"][OURS]
        mode, _, size = row["workload"].removeprefix(f"{row['op']} ").partition(" [")
        key = (row["op"], mode)
        targets = TARGETS.get(key) or TARGETS.get((*key, f"[{size.partition(']')[0]}]"), {})
        which = list(REGIMES).index(row["regime"])
        cells = []
        for name, median in row["median_ms"].items():
            if name == OURS:
                continue
            wanted = targets.get(name)
            cell = f"{name} {median / ours:.3g}x"
            if wanted:
                cell += f" ({wanted[which]:.3g}x{'' if median / ours >= wanted[which] else ', missed'})"
            cells.append(cell)
        peaks = f"{row['peak_mb'][OURS]:.4g} ({row['peak_mb']['reference']:.4g})"
        share, least = row["bandwidth_share"], SHARES.get(row["workload"])
        wanted_share = f", wanted {least:.0%}{'' if share >= least else ', missed'}" if least else ""
        rate = f"{row['gb_per_s']:.3g} ({share:.0%}{wanted_share})"
        lines.append(f"| {row['workload']} | {row['regime']} | {ours:.3g} | {rate} | {peaks} | {', '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["workload"] for row in rows))
    figure, panels = pyplot.subplots(1, 2, figsize=(15, 1.5 + 0.34 * len(names)), layout="constrained", sharey=True)
    for panel, regime in zip(panels, REGIMES, strict=True):
        mine = {row["workload"]: row for row in rows if row["regime"] == regime}
        contenders = list(dict.fromkeys(name for row in mine.values() for name in row["median_ms"]))
        height = 0.85 / len(contenders)
        for i, contender in enumerate(contenders):
            points = [
                (names.index(name) + i * height, row["median_ms"][contender])
                for name, row in mine.items()
                if contender in row["median_ms"]
            ]
            panel.barh([y for y, _ in points], [x for _, x in points], height, label=contender)
        panel.set_xscale("log")
        panel.set_xlabel("milliseconds (median)")
        panel.set_title(f"memory: {regime}")
        panel.set_yticks([i + 0.4 for i in range(len(names))], names)
    panels[0].invert_yaxis()
    handles = {label: h for p in panels for h, label in zip(*p.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", help="all if none is named")
    args = parser.parse_args()
    others = {"conftest", "peers", "run", "growth"}
    files = [f"{op}.py" for op in args.ops] or sorted(p.name for p in HERE.glob("*.py") if p.stem not in others)
    rows = measure(files)
    facts = machine("cpu")
    name = RESULTS / f"ops-{re.sub(r'[^a-z0-9]+', '-', facts['device'].lower()).strip('-')}"
    RESULTS.mkdir(exist_ok=True)
    name.with_suffix(".json").write_text(json.dumps({"machine": facts, "timings": rows}, indent=1) + "\n")
    heading = ", ".join(f"{key}: {value}" for key, value in facts.items())
    copies = ", ".join(sorted({f"{row['regime']}: copy {row['copy_gb_per_s']:.3g} GB/s" for row in rows}))
    name.with_suffix(".md").write_text(f"{heading}. {copies}.\n\n{table(rows)}")
    plot(rows, name.with_suffix(".png"))
    print(name.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
