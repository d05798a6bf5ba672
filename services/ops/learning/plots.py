"""Plots as SVG: reliability, gain, and bars with intervals."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from services.scorer.learning.measures import Bin

SIDE, LEFT, TOP, RIGHT, BOTTOM = 320, 56, 36, 20, 48
ROW, NAMES = 24, 200  # of a bar, and the room of its name
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
INK, GREY, LINE = "#1f2937", "#9ca3af", "#2563eb"

Points = Sequence[tuple[float, float]]


def reliability(parts: Sequence[Bin]) -> str:
    """Share with the outcome against the mean prediction, in ten bins of equal count."""
    points = [(part.p, part.y) for part in parts]
    title = "Of those given p, how many had the outcome"
    return _plot(title, "predicted", "happened", points, dots=True)


def gain(points: Points) -> str:
    """Share of outcomes found by the share of leads that are asked first."""
    return _plot("Outcomes found when the likeliest are asked first", "leads", "outcomes", points)


class Bar(NamedTuple):
    """A labelled value with its interval; `is_strong` is drawn in full colour."""

    label: str
    value: float
    interval: Sequence[float]
    is_strong: bool = False


def bars(title: str, across: str, shown: Sequence[Bar]) -> str:
    """Values as horizontal bars, each with its interval, from the common 0."""
    low = min(0.0, *(bar.interval[0] for bar in shown))
    high = max(1e-9, *(bar.interval[1] for bar in shown))
    width, height = 660, TOP + ROW * len(shown) + BOTTOM

    def at(value: float) -> float:
        return NAMES + (width - NAMES - 90) * (value - low) / (high - low)

    rows = []
    for number, bar in enumerate(shown):
        y = TOP + ROW * number
        left, right = sorted((at(0), at(bar.value)))
        rows.append(
            f'<text x="{NAMES - 8}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect x="{left:.1f}" y="{y + 4}" width="{right - left:.1f}" height="14" '
            f'fill="{LINE if bar.is_strong else GREY}"/>'
            f'<path d="M{at(bar.interval[0]):.1f} {y + 11}H{at(bar.interval[1]):.1f}" '
            f'stroke="{INK}"/>'
            f'<text x="{width - 6}" y="{y + 15}" text-anchor="end">{bar.value:.4f}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="{INK}" role="img" '
        f'aria-label="{title}"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="20" font-weight="bold">{title}</text>{"".join(rows)}'
        f'<path d="M{at(0):.1f} {TOP}v{ROW * len(shown)}" stroke="{INK}" stroke-width=".5"/>'
        f'<text x="{width / 2}" y="{height - 14}" text-anchor="middle">{across}</text></svg>\n'
    )


def _plot(title: str, across: str, up: str, points: Points, *, dots: bool = False) -> str:
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    marks = "".join(
        f'<circle cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="4" fill="{LINE}"/>'
        for x, y in points
        if dots
    )
    ticks = "".join(
        f'<text x="{_x(t):.1f}" y="{TOP + SIDE + 18}" text-anchor="middle">{t:.0%}</text>'
        f'<text x="{LEFT - 8}" y="{_y(t) + 4:.1f}" text-anchor="end">{t:.0%}</text>'
        f'<path d="M{LEFT} {_y(t):.1f}h{SIDE}" stroke="{GREY}" stroke-width=".3"/>'
        for t in TICKS
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="{INK}" role="img" '
        f'aria-label="{title}"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="20" font-weight="bold">{title}</text>{ticks}'
        f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="{GREY}"/>'
        f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" stroke="{GREY}" stroke-dasharray="4"/>'
        f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2"/>{marks}'
        f'<text x="{LEFT + SIDE / 2}" y="{height - 8}" text-anchor="middle">{across}</text>'
        f'<text transform="translate(14 {TOP + SIDE / 2}) rotate(-90)" '
        f'text-anchor="middle">{up}</text></svg>\n'
    )


def _x(share: float) -> float:
    return LEFT + SIDE * share


def _y(share: float) -> float:
    return TOP + SIDE * (1 - share)
