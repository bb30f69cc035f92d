"""Measure the reward model of recipes/hh.yaml on random splits of the real preferences.

    .venv/bin/python benchmarks/hh_reward_model.py DATA [--splits 5]

Every split trains its own tokenizer, SFT and reward model. Writes benchmarks/results/hh_reward_model.json.
"""

import argparse
import json
import math
import platform
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

import torch
import transformers

from alignlab.cli.run import run_and_report

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--splits", type=int, default=5)
    args = parser.parse_args()
    accuracies, seconds = [], []
    for split in range(args.splits):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            settings = [f"output={scratch}", f"data.path={args.data}", f"data.split_seed={split}", f"seed={split}"]
            run_and_report(str(ROOT / "recipes" / "hh.yaml"), settings, until="rm")
            measured = json.loads((Path(scratch) / "rm" / "model" / "alignlab.json").read_text())["eval"]
        accuracies.append(measured["accuracy"])
        seconds.append(time.perf_counter() - began)
        print(f"split {split}: accuracy {measured['accuracy']:.3f} on {measured['num']:.0f} pairs, {seconds[-1]:.0f} s")
    error = stdev(accuracies) / math.sqrt(len(accuracies))
    print(f"mean of {len(accuracies)} splits: {mean(accuracies):.3f}, standard error {error:.3f}")
    result = {
        "accuracies": accuracies,
        "mean": mean(accuracies),
        "standard_error": error,
        "seconds": seconds,
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }
    (ROOT / "benchmarks" / "results" / "hh_reward_model.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
