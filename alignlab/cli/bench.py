"""alignlab bench [OP...]: every implementation of an op against the others on this machine."""

import argparse
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from alignlab.errors import AlignlabError, did_you_mean

if TYPE_CHECKING:
    from alignlab.ops.bench import Timing

HELP = "time the implementations of every op against each other on this machine"
COLUMNS = ("median ms", "against reference", "GB/s", "of copy", "peak MB", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("ops", nargs="*", metavar="OP", help="the ops to time: all if none is named")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to time each contender (default 1)")
    parser.add_argument("--use", action="append", default=[], metavar="KERNEL", help="a plugin's kernels; repeatable")
    parser.add_argument("--output", type=Path, help="write the numbers there as JSON, and a plot beside it (.png)")


def run(args: argparse.Namespace) -> int:
    """Time, print and write."""
    import torch

    from alignlab import ops
    from alignlab.ops.bench import bench

    for name in args.ops:
        if name not in ops.OPS:
            raise AlignlabError(f"there is no op {name!r}", do=did_you_mean(name, ops.OPS))
    if args.device != "cpu" and not torch.cuda.is_available():
        raise AlignlabError(f"there is no device {args.device!r} here", do="leave --device out to use the CPU")
    if args.use:
        from alignlab.plugins import Plugins

        plugins = Plugins()
        for name in args.use:
            plugins.use(f"kernel.{name}")
    timings: list[Timing] = []
    for op in args.ops or ops.OPS:
        for timing in bench(op, args.device, seconds=args.seconds):
            timings.append(timing)
            if len(timings) < 2 or timing.workload != timings[-2].workload:
                print(f"\n{timing.workload}\n  {'':16}" + "".join(f"{column:>18}" for column in COLUMNS))
            reference = next(t for t in timings if t.workload == timing.workload and t.contender == "reference")
            print(_line(timing, reference), flush=True)
    if args.output:
        _write(args.output, timings, args.device)
    return 0


def _line(timing: "Timing", reference: "Timing") -> str:
    cells = (
        f"{timing.median_ms:.3g}",
        f"{reference.median_ms / timing.median_ms:.3g}x",
        f"{timing.gb_per_s:.3g}",
        f"{timing.bandwidth_share:.0%}",
        f"{timing.peak_mb:.3g}",
        f"{timing.error:.1e}",
    )
    return f"  {timing.contender:16}" + "".join(f"{cell:>18}" for cell in cells)


def machine(device: str) -> dict[str, str]:
    """Return what the numbers were measured on."""
    import torch

    from alignlab import ops

    name = torch.cuda.get_device_name() if device != "cpu" else _processor()
    return {"device": name, "threads": str(torch.get_num_threads()), "torch": torch.__version__, **ops.build_facts()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _write(path: Path, timings: "list[Timing]", device: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [timing.row() for timing in timings]
    path.write_text(json.dumps({"machine": machine(device), "timings": rows}, indent=1) + "\n")
    print(f"\nwrote {path}")
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(timing.workload for timing in timings))
    contenders = list(dict.fromkeys(timing.contender for timing in timings))
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.3 * len(names)), layout="constrained")
    height = 0.8 / len(contenders)
    for i, contender in enumerate(contenders):
        found = [(names.index(t.workload) + i * height, t.median_ms) for t in timings if t.contender == contender]
        axes.barh([y for y, _ in found], [x for _, x in found], height, label=contender)
    axes.set_yticks([i + 0.4 for i in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds (median)")
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=120)
    print(f"wrote {path.with_suffix('.png')}")
