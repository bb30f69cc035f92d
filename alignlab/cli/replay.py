"""alignlab replay BATCH: a batch whose loss or gradient was not finite."""

import argparse

HELP = "replay a batch whose loss or gradient was not finite: which weights, rows, tokens and terms are not"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("batch", help="the directory that the run has saved: RUN/PHASE/bad-batch-step-N")


def run(args: argparse.Namespace) -> int:
    """Say what is not finite; 1 if the numbers are not those of the run."""
    from pathlib import Path

    from alignlab.engine.display import Display
    from alignlab.engine.replay import replay

    return 0 if replay(Path(args.batch), Display().say) else 1
