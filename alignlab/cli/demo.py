"""alignlab demo: the whole pipeline on the small world."""

import argparse
from importlib.resources import files
from typing import Any

from alignlab.cli.run import add_set, run_and_report

RECIPES = {"rlhf": "demo.yaml", "rlaif": "demo-rlaif.yaml", "cai": "demo-cai.yaml"}
HELP = "run the whole pipeline (SFT, reward model, PPO, DPO) on a built-in small world, in a few minutes on a CPU"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_set(parser)
    parser.add_argument(
        "--method",
        choices=RECIPES,
        default="rlhf",
        help="rlhf: reward model and PPO, and DPO (default); rlaif: a judge labels; cai: a constitution",
    )
    parser.add_argument("--output", help="the run directory (default: runs/demo, or runs/demo-METHOD)")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="SEED",
        help="run once for each seed, in OUTPUT-seed-N, and fail unless every policy beats SFT in every one",
    )


def run(args: argparse.Namespace) -> int:
    """Run the recipe that the package holds."""
    recipe = str(files("alignlab") / "recipes" / RECIPES[args.method])
    wanted = args.output or ("runs/demo" if args.method == "rlhf" else f"runs/demo-{args.method}")
    if args.seeds is None:
        run_and_report(recipe, [f"output={wanted}", *args.set])
        return 0
    reports = {}
    for seed in args.seeds:
        output = f"{wanted}-seed-{seed}"
        reports[seed] = run_and_report(recipe, [f"output={output}", f"seed={seed}", *args.set])
    beaten = [_beats(seed, report) for seed, report in reports.items()]
    return 0 if all(beaten) else 1


def _beats(seed: int, report: Any) -> bool:
    """Print and return whether every policy beats the baseline on the first reward, beyond the interval."""
    beats = True
    for policy, row in report["policies"].items():
        if "gain" in row:
            name, (gain, half) = next(iter(row["gain"].items()))
            beats &= gain > half
            verdict = "beats" if gain > half else "does NOT beat"
            print(f"seed {seed}: {policy} {verdict} {report['baseline']} on {name}: {gain:+.2f} ± {half:.2f}")
    return beats
