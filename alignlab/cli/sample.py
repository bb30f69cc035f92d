"""alignlab sample RUN: ask the models of a run, side by side."""

import argparse

HELP = "answer prompts with the models of a run, side by side"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("run", help="a run directory, or any Hugging Face model directory")
    parser.add_argument("prompt", nargs="*", help="prompts; lines of standard input if none is given")
    parser.add_argument("--phase", action="append", help="only these phases' models")
    parser.add_argument("--max-new-tokens", type=positive, default=64)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--num-samples", type=positive, default=1, help="answers to each prompt")
    parser.add_argument("--seed", type=int, default=0)


def positive(text: str) -> int:
    """Parse a number above 0."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"wanted a whole number above 0, came {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Load each model and print its answers."""
    import sys
    from pathlib import Path

    from alignlab.engine.answer import answer, policies
    from alignlab.generate import Sampling

    models = policies(Path(args.run), args.phase)
    prompts = args.prompt or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    sampling = Sampling(max_new_tokens=args.max_new_tokens, temperature=args.temperature, num_samples=args.num_samples)
    answers = {name: answer(path, prompts, sampling, args.seed) for name, path in models.items()}
    for i, prompt in enumerate(prompts):
        print(f"> {prompt}")
        for name, found in answers.items():
            for text in found[i]:
                print(f"{name}: {text}")
    return 0
