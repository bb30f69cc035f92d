"""What was certified, as a table, as JSON and as a plot."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from statistics import mean
from typing import Any

from rich.table import Table

from alignlab.certify.certify import BARS, Certificate

WORDS = {True: "yes", False: "NO", None: "-"}
COLUMNS = {
    "share": ("gain", ".1%"),
    "kl_to_optimum": ("KL(pi, pi*)", ".4f"),
    "kl_to_reference": ("KL(pi, ref)", ".3f"),
    "outside": ("outside", ".2%"),
    "probability_error": ("error of P", ".4f"),
    "gap": ("gap, nats", ".4f"),
}
WIDTH, HEIGHT, LEFT, TOP, LINE = 460, 260, 60, 40, 18  # of the plot; pixels
COLORS = ("#246", "#b42", "#282", "#a2a", "#a80", "#088", "#555", "#d36")
FLOOR = -0.2  # of the plot: what is further below stands on it


def line(one: Certificate) -> str:
    """Return what is said of a training that is done."""
    shown = (f"{COLUMNS[name][0]} {value:{COLUMNS[name][1]}}" for name, value in one.reached.items() if name in COLUMNS)
    return f"{one.label}, seed {one.seed}: {', '.join(shown)}; held: {WORDS[one.passed]} ({one.seconds:.0f} s)"


def grouped(found: Sequence[Certificate]) -> dict[tuple[str, int], list[Certificate]]:
    """Return the certificates of each method and model size, all seeds together."""
    groups: dict[tuple[str, int], list[Certificate]] = {}
    for one in found:
        groups.setdefault((one.label, one.hidden_size), []).append(one)
    return groups


def table(found: Sequence[Certificate]) -> Table:
    """Return a line for each method and model size: means over seeds, with the worst seed of what is asked."""
    shown = [name for name in COLUMNS if any(name in one.reached for one in found)]
    made = Table("method", "hidden", "held to", "seeds", *(COLUMNS[name][0] for name in shown), "held")
    for column in made.columns:
        column.overflow = "fold"  # a narrow terminal cuts nothing off
    for (label, hidden), group in grouped(found).items():
        cells = [_cell(name, [one.reached[name] for one in group if name in one.reached]) for name in shown]
        held = WORDS[None] if group[0].passed is None else WORDS[all(one.passed for one in group)]
        made.add_row(label, str(hidden), group[0].promise or "nothing", str(len(group)), *cells, held)
    return made


def _cell(name: str, values: Sequence[float]) -> str:
    if not values:
        return ""
    form = COLUMNS[name][1]
    if name not in BARS or len(values) == 1:
        return f"{mean(values):{form}}"
    worst = min(values) if name == "share" else max(values)
    return f"{mean(values):{form}} ({worst:{form}})"


def to_json(found: Sequence[Certificate]) -> list[dict[str, Any]]:
    """Return everything that was measured."""
    return [{**asdict(one), "reached": one.reached} for one in found]


def svg(found: Sequence[Certificate]) -> str:
    """Return the share of the gain over the steps, the mean of the seeds, with a line at what is asked."""
    groups = {key: group for key, group in grouped(found).items() if "share" in group[0].reached}
    body = "\n".join(_curves(groups))
    height = TOP + max(HEIGHT + 60, LINE * (len(groups) + 1))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 420}" height="{height}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{LEFT}" y="22" font-size="14">share of the achievable gain</text>\n{body}\n</svg>\n'
    )


def _curves(groups: dict[tuple[str, int], list[Certificate]]) -> Iterator[str]:
    last = max((one.curve[-1]["step"] for group in groups.values() for one in group), default=1)

    def at(step: float, share: float) -> str:
        height = HEIGHT * (1 - max(share, FLOOR)) / (1 - FLOOR)
        return f"{LEFT + WIDTH * step / last:.1f},{TOP + height:.1f}"

    yield f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>'
    for share in (0.0, 0.5, BARS["share"]):
        yield f'<polyline points="{at(0, share)} {at(last, share)}" stroke="#999" stroke-dasharray="4" fill="none"/>'
        height = at(0, share).split(",")[1]
        yield f'<text x="{LEFT - 6}" y="{float(height) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
    yield f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">steps (0 to {last:.0f})</text>'
    for number, ((label, hidden), group) in enumerate(groups.items()):
        color, dash = COLORS[number % len(COLORS)], ' stroke-dasharray="6 3"' if number >= len(COLORS) else ""
        curves = zip(*(one.curve for one in group), strict=True)
        points = " ".join(at(points[0]["step"], mean(p["share"] for p in points)) for points in curves)
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"{dash}/>'
        y = TOP + LINE * (number + 0.5)
        yield f'<line x1="{LEFT + WIDTH + 12}" y1="{y}" x2="{LEFT + WIDTH + 36}" y2="{y}" stroke="{color}"{dash}/>'
        size = f", hidden {hidden}" if len({h for name, h in groups if name == label}) > 1 else ""
        yield f'<text x="{LEFT + WIDTH + 42}" y="{y + 4}">{escape(label + size)}</text>'
