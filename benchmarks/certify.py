"""Everything that docs/certification.md states: every method of ours, by `make certify`.

Writes benchmarks/results/certify.json and certify.svg beside it, again after every training.
"""

import argparse
import json
import os
import time
from pathlib import Path

from alignlab.certify.report import line, svg, to_json
from alignlab.certify.request import parse
from alignlab.certify.together import certify_all, jobs

RESULTS = Path(__file__).parent / "results" / "certify.json"
HELD = (
    "ppo",
    "ppo:kl_in=loss",
    "dpo",
    "sft",
    "reward_model",
    "rlaif",
    "dpo:loss_type=ipo,beta=0.1,steps=400",
    "dpo:loss_type=exo_pair,label_smoothing=0.001",
    "dpo:loss_type=robust",
)
PLACEMENTS = (
    "ppo:kl_estimator=k2",
    "ppo:kl_estimator=k3",
    "ppo:kl_in=loss,kl_straight_through=false",
    "ppo:kl_in=loss,kl_estimator=k2,kl_straight_through=false",
    "ppo:kl_in=loss,kl_estimator=k3,kl_straight_through=false",
)
SIZES = (8, 16, 32)  # hidden, for DPO, beside the 48 that all are certified with
FEWER = 2  # seeds of the placements and of the sizes, which no bar is set for


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("runs/certify"))
    args = parser.parse_args()
    held, placements, output = [parse(text) for text in HELD], [parse(text) for text in PLACEMENTS], args.output
    todo = jobs(held, args.seeds, output, beta=1.0)
    num_held = len(todo)
    todo += jobs(placements, args.seeds[:FEWER], output, beta=1.0)
    for hidden in SIZES:
        todo += jobs([parse("dpo")], args.seeds[:FEWER], output, beta=1.0, hidden_size=hidden)
    began, found = time.perf_counter(), []
    for one in certify_all(todo, args.processes):
        found.append(one)
        print(line(one), flush=True)
        seconds = time.perf_counter() - began
        if len(found) == num_held:
            print(f"what is held to a bar took {seconds:.0f} s", flush=True)
        about = {
            "processes": args.processes,
            "load": os.getloadavg()[1],
            "seconds": seconds,
            "cpu_seconds": sum(o.seconds for o in found),
        }
        RESULTS.write_text(json.dumps({**about, "certificates": to_json(found)}, indent=1) + "\n")
        RESULTS.with_suffix(".svg").write_text(svg(found))
    return 1 if any(one.passed is False for one in found[:num_held]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
