"""The plot of a rehearsal as SVG: three courses of the same people, day by day."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, TOP, GAP, BOTTOM = 250, 200, 56, 84, 66, 44
INK, GREY = "#1f2937", "#9ca3af"
# colours that people who see few of them tell apart, and dashes for those who see none
STYLES = {
    "nurtured": ("#2563eb", "", "nurtured"),
    "left_alone": ("#6b7280", "2 3", "left alone"),
    "calendar": ("#d97706", "7 3", "calendar drip"),
}


class Curves(NamedTuple):
    """Of one course, cumulative by day."""

    progressed: Sequence[int]
    unsubscribed: Sequence[int]
    sends: Sequence[int]


TITLES = {
    "progressed": "People who moved a stage on",
    "unsubscribed": "People who unsubscribed",
    "sends": "Touches that nobody asked for",
}


def drawn(courses: Mapping[str, Curves], days: int) -> str:
    """Three panels beside each other, with a legend and the label that nothing of it is real."""
    width = LEFT + len(TITLES) * (WIDTH + GAP)
    height = TOP + HEIGHT + BOTTOM
    panels = "".join(
        _panel(name, title, courses, days, LEFT + place * (WIDTH + GAP))
        for place, (name, title) in enumerate(TITLES.items())
    )
    legend = "".join(
        f'<path d="M{LEFT + 130 * place} 40h28" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dashes}"/>'
        f'<text x="{LEFT + 130 * place + 34}" y="44">{words}</text>'
        for place, (colour, dashes, words) in enumerate(STYLES.values())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="{INK}" role="img" '
        f'aria-label="Rehearsal with simulated people: nurtured, left alone, calendar drip">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="20" font-weight="bold">Rehearsal with simulated people, '
        f"no forecast</text>{legend}{panels}</svg>\n"
    )


def _panel(name: str, title: str, courses: Mapping[str, Curves], days: int, left: int) -> str:
    lines = {course: getattr(curves, name) for course, curves in courses.items()}
    top = max((max(line, default=0) for line in lines.values()), default=0) or 1
    paths = "".join(
        f'<polyline points="{_points(line, top, left)}" fill="none" stroke="{STYLES[course][0]}" '
        f'stroke-width="2" stroke-dasharray="{STYLES[course][1]}"/>'
        for course, line in lines.items()
    )
    ticks = "".join(
        f'<text x="{left - 6}" y="{TOP + HEIGHT * (1 - share) + 4:.1f}" text-anchor="end">'
        f"{top * share:,.0f}</text>"
        f'<path d="M{left} {TOP + HEIGHT * (1 - share):.1f}h{WIDTH}" stroke="{GREY}" '
        'stroke-width=".3"/>'
        for share in (0.0, 0.5, 1.0)
    )
    return (
        f'<text x="{left}" y="{TOP - 10}">{title}</text>{ticks}'
        f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" '
        f'stroke="{GREY}"/>{paths}'
        f'<text x="{left}" y="{TOP + HEIGHT + 18}">0</text>'
        f'<text x="{left + WIDTH}" y="{TOP + HEIGHT + 18}" text-anchor="end">{days} days</text>'
    )


def _points(line: Sequence[int], top: int, left: int) -> str:
    last = max(len(line) - 1, 1)
    return " ".join(
        f"{left + WIDTH * place / last:.1f},{TOP + HEIGHT * (1 - value / top):.1f}"
        for place, value in enumerate(line)
    )
