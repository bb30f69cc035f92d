"""alignlab certify METHOD...: whether a method reaches the optimum that its theory promises."""

import argparse
import json
from pathlib import Path

HELP = "train methods in a world whose answers can all be listed, and compare them with the exact optimum"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "methods",
        nargs="+",
        metavar="METHOD",
        help="a method, with settings after a colon: ppo, dpo:loss_type=ipo,lr=1e-3; or rlaif, which is dpo on pairs "
        "that a judge has labelled",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED", help="one world each (default: 0)")
    parser.add_argument("--beta", type=float, default=1.0, help="how dear it is to leave the reference (default: 1)")
    parser.add_argument("--steps", type=int, help="batches; each kind of method has its own default")
    letters = "of the longest answer; 4, the default, give 780 answers"
    parser.add_argument("--letters", type=int, choices=(1, 2, 3, 4), default=4, help=letters)
    parser.add_argument("--hidden-size", type=int, default=48, help="of the model (default: 48)")
    parser.add_argument("--use", action="append", default=[], metavar="PLUGIN", help="a plugin that wraps stages")
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time, with a thread each (default: 1)")
    parser.add_argument("--output", type=Path, default=Path("runs/certify"), help="(default: runs/certify)")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON, and no table")


def run(args: argparse.Namespace) -> int:
    """Train, measure, print, and write; 1 if a promise is not kept."""
    import torch

    from alignlab.atomic import write_text
    from alignlab.certify.report import line, svg, table, to_json
    from alignlab.certify.request import parse
    from alignlab.certify.together import certify_all, jobs
    from alignlab.certify.world import WorldSize
    from alignlab.engine.display import Display

    torch.set_num_threads(1)  # so small a model is no faster with more
    requests = [parse(text) for text in args.methods]
    if args.steps is not None:
        requests = [request.with_steps(args.steps) for request in requests]
    world = WorldSize(max_letters=args.letters)
    todo = jobs(
        requests, args.seeds, args.output, beta=args.beta, hidden_size=args.hidden_size, size=world, hooks=args.use
    )
    display, found = Display(), []
    for one in certify_all(todo, args.processes):
        found.append(one)
        if not args.json:
            display.say(line(one))
    measured = json.dumps(to_json(found), indent=1)
    write_text(args.output / "certify.json", measured + "\n")
    write_text(args.output / "certify.svg", svg(found))
    if args.json:
        print(measured)
    else:
        if not display.console.is_terminal:
            display.console.width = 160  # a file has room: no cell is cut
        display.console.print(table(found))
        display.say(f"wrote {args.output / 'certify.json'} and certify.svg")
    return 1 if any(one.passed is False for one in found) else 0
