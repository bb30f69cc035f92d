"""A plot of an agreement as SVG: the calibration curve, each point with its interval, and the accuracy by principle."""

from collections.abc import Iterator
from html import escape

from alignlab.engine.agreement import Agreement

SIDE, LEFT, TOP, ROW = 300, 60, 40, 26  # of the square, its margins, and a principle's line; pixels


def svg(found: Agreement, title: str) -> str:
    """Return the plot."""
    height = TOP + SIDE + 70 + ROW * (len(found.by_principle) + 1)
    body = "\n".join([*_curve(found), *_principles(found)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + SIDE + 220}" height="{height}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>\n{body}\n</svg>\n'
    )


def _curve(found: Agreement) -> Iterator[str]:
    yield f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>'
    yield f'<line x1="{LEFT}" y1="{TOP + SIDE}" x2="{LEFT + SIDE}" y2="{TOP}" stroke="#999" stroke-dasharray="4"/>'
    for tick in (0.0, 0.5, 1.0):
        yield f'<text x="{_x(tick)}" y="{TOP + SIDE + 16}" text-anchor="middle">{tick:g}</text>'
        yield f'<text x="{LEFT - 6}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>'
    yield f'<text x="{LEFT + SIDE / 2}" y="{TOP + SIDE + 36}" text-anchor="middle">probability given</text>'
    turned = f'transform="translate(18 {TOP + SIDE / 2}) rotate(-90)"'
    yield f'<text {turned} text-anchor="middle">share that was right</text>'
    points = []
    for one in found.calibration.bins if found.calibration else ():
        low, high = one.interval
        x = _x(one.predicted)
        points.append(f"{x},{_y(one.observed)}")
        yield f'<line x1="{x}" y1="{_y(low)}" x2="{x}" y2="{_y(high)}" stroke="#246"/>'
        yield f'<circle cx="{x}" cy="{_y(one.observed)}" r="{2 + 6 * one.share:.1f}" fill="#246"/>'
    yield f'<polyline points="{" ".join(points)}" fill="none" stroke="#246"/>'


def _principles(found: Agreement) -> Iterator[str]:
    lines = {"all pairs": found.accuracy, **{k or "no principle": v[:3] for k, v in found.by_principle.items()}}
    for number, (name, (share, low, high)) in enumerate(lines.items()):
        y = TOP + SIDE + 60 + ROW * number
        yield f'<line x1="{_x(low)}" y1="{y}" x2="{_x(high)}" y2="{y}" stroke="#246"/>'
        yield f'<circle cx="{_x(share)}" cy="{y}" r="4" fill="#246"/>'
        yield f'<text x="{LEFT + SIDE + 10}" y="{y + 4}">{escape(name)}: {share:.3f}</text>'


def _x(value: float) -> float:
    return round(LEFT + SIDE * value, 1)


def _y(value: float) -> float:
    return round(TOP + SIDE * (1 - value), 1)
