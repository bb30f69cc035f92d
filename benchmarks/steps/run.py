"""Time steps and generation of alignlab beside TRL's, in turn on this machine: what `make bench` runs.

    .venv/bin/python benchmarks/steps/run.py --inputs .peers/inputs --trl-1.16 PYTHON --trl-1.12 PYTHON [--rounds 2]

Every measurement is a process of its own. In each round the two sides take turns, so that a machine that slows down
slows both. Writes benchmarks/results/steps.json and prints the table of README.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import tasks

HERE = Path(__file__).parent
RESULT = HERE.parent / "results" / "steps.json"
# What is measured: its name in the table, and how many times the peer's speed it has to have.
TASKS = {
    "dpo": ("DPO step, 8 pairs", 2.5),
    "sft": ("SFT step, 16 rows", 2.0),
    "reward": ("reward-model step, 8 pairs", 1.2),
    "ppo": ("PPO step, 16 prompts, 4 passes", 2.0),
    "generate_full_8": ("generation, batch 8", 1.3),
    "generate_full_64": ("generation, batch 64", 1.3),
    "generate_ends_8": ("generation, batch 8, lengths vary", 2.0),
    "generate_ends_64": ("generation, batch 64, lengths vary", 2.0),
}
THREADS = "2"


def measure(python: str, script: str, task: str, inputs: Path) -> dict[str, Any]:
    """Run one side of a task in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": THREADS, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([python, script, task, inputs], cwd=HERE, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{script} {task} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def versions(python: str) -> dict[str, str]:
    """Return what is installed beside an interpreter."""
    names = ("torch", "transformers", "trl")
    code = f"import importlib.metadata as m; print(*(m.version(n) for n in {names}))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(names, found, strict=True))


def merged(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the rounds of one side together: the median over all of their steps, the highest peak."""
    seconds = [x for found in rounds for x in found["seconds"]]
    out: dict[str, Any] = {
        "seconds": median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "num": len(seconds),
        "peak_rss": max(found["peak_rss"] for found in rounds),
    }
    if losses := rounds[0].get("losses"):
        out["losses"] = losses
    if lengths := rounds[0].get("lengths"):
        out["mean_length"] = sum(lengths) / len(lengths)
    return out


def compared(task: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return both sides of one task and what follows from them."""
    found = {"ours": merged(ours), "theirs": merged(theirs), "wanted": TASKS[task][1]}
    found["times"] = found["theirs"]["seconds"] / found["ours"]["seconds"]
    if task in ("dpo", "sft", "reward"):  # the same batches in the same order; PPO samples its own
        pairs = zip(found["ours"]["losses"], found["theirs"]["losses"], strict=True)
        found["loss_difference"] = max(abs(a - b) for a, b in pairs)
    return found


def table(results: dict[str, Any]) -> str:
    """Return the results as README shows them."""
    lines = ["| | alignlab | peer | times | target | peak memory |", "|---|---|---|---|---|---|"]
    for task, found in results.items():
        unit = (lambda s: f"{1 / s:.0f} tokens/s") if task.startswith("generate") else (lambda s: f"{s:.3f} s")
        ours, theirs = found["ours"], found["theirs"]
        memory = f"{ours['peak_rss'] / 2**20:.0f} MiB, peer {theirs['peak_rss'] / 2**20:.0f}"
        missed = "" if found["times"] >= found["wanted"] else " (missed)"
        lines.append(
            f"| {TASKS[task][0]} | {unit(ours['seconds'])} | {unit(theirs['seconds'])} | **{found['times']:.2f}** "
            f"| {found['wanted']}{missed} | {memory} |"
        )
    return "\n".join(lines)


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    named = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return named[0].split(": ", 1)[1] if named else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--trl-1.16", dest="trl_116", required=True)
    parser.add_argument("--trl-1.12", dest="trl_112", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    args = parser.parse_args()
    inputs = args.inputs.resolve()
    trl_116, trl_112 = map(os.path.abspath, (args.trl_116, args.trl_112))  # a link is what makes an environment
    load = os.getloadavg()[0]
    ours: dict[str, list[dict[str, Any]]] = {task: [] for task in args.tasks}
    theirs: dict[str, list[dict[str, Any]]] = {task: [] for task in args.tasks}
    for number in range(args.rounds):
        for task in args.tasks:
            peer = (trl_112, "trl_112.py") if task == "ppo" else (trl_116, "trl_116.py")
            theirs[task].append(measure(*peer, task, inputs))
            ours[task].append(measure(sys.executable, "ours.py", task, inputs))
            print(f"round {number + 1}: {task}", file=sys.stderr, flush=True)
    results = {task: compared(task, ours[task], theirs[task]) for task in args.tasks}
    if "dpo" in results:  # DPO with reference log-probs computed before: is it better for an epoch in all?
        before = measure(trl_116, "trl_116.py", "dpo_precomputed", inputs)
        steps = tasks.NUM_PAIRS // tasks.DPO_PAIRS
        found = results["dpo"]
        both = (found["theirs"]["seconds"], before["start_seconds"] / steps + median(before["seconds"]))
        found["theirs"]["seconds_by_mode"] = dict(zip(("reference each step", "reference before"), both, strict=True))
        found["theirs"]["seconds"] = min(both)
        found["times"] = min(both) / found["ours"]["seconds"]
    report = {
        "tasks": results,
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": int(THREADS),
            "load_before": load,
            "system": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            "ours": {name: version(name) for name in ("torch", "transformers", "alignlab")},
            "trl-1.16": versions(trl_116),
            "trl-1.12": versions(trl_112),
        },
        "date": time.strftime("%Y-%m-%d"),
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(table(results))
    if load > 0.5:
        print(f"\nThe machine was not idle: its load was {load:.1f} before this began.")


if __name__ == "__main__":
    main()
