"""Do leads come ready, or do they become so? The age at conversion, and whether it has two peaks."""

from typing import NamedTuple

import numpy as np

from services.scorer.reports.journeys import F, Journeys
from services.scorer.reports.shares import wilson

EARLY, LATE = 7.0, 60.0  # days
FOLLOW_UP = 180.0  # days for which leads must be known, so that late conversions are not missed
LEAST_OUTCOMES = 50  # for a test of peaks
EDGES = (0.0, 1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 90.0, 120.0, 180.0, 365.0)
GRID = 512
RESAMPLES = 300
SIGNIFICANT = 0.05


class Share(NamedTuple):
    """A share of the outcomes, with its 95 % interval."""

    share: float
    interval: tuple[float, float]


class Peaks(NamedTuple):
    """Whether the ages have two peaks: `yes`, `no` or `too few`; the probability of such ages with
    one peak; where the peaks of the estimated density are, in days.
    """

    answer: str
    p: float | None
    days: list[float]


class MadeOrBorn(NamedTuple):
    """Of leads known for `follow_up` days: their number, their outcomes within it, ages in days."""

    follow_up: float
    leads: int
    outcomes: int
    median_age: float | None
    within: Share | None
    after: Share | None
    histogram: list[tuple[float, float, int]]
    two_peaks: Peaks


def made_or_born(journeys: Journeys, follow_up: float = FOLLOW_UP) -> MadeOrBorn:
    """Ages at conversion within `follow_up` days, of the leads that are known for so long: younger
    leads can only have converted early. Where fewer than half of the leads are, the time for which
    half of them are counts instead.
    """
    known_for = journeys.until - journeys.began
    follow_up = float(min(follow_up, np.median(known_for))) if len(known_for) else follow_up
    chosen = journeys.followed(follow_up)
    age = journeys.age[chosen]
    age = np.sort(age[age <= follow_up])
    edges = np.array([edge for edge in EDGES if edge < follow_up] + [follow_up])
    counts, _ = np.histogram(age, edges) if len(edges) > 1 else (np.zeros(0, int), edges)
    return MadeOrBorn(
        follow_up,
        int(chosen.sum()),
        len(age),
        float(np.median(age)) if len(age) else None,
        _share(age <= EARLY),
        _share(age > LATE),
        [
            (float(low), float(high), int(count))
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ],
        two_peaks(age),
    )


def two_peaks(age: F) -> Peaks:
    """Tests one peak against more, of log(1 + days), by the critical bandwidth (Silverman, 1981):
    the least for which a Gaussian kernel's density has one peak; how many resamples from that
    density have more.
    """
    if len(age) < LEAST_OUTCOMES:
        return Peaks("too few", None, [])
    x = np.log1p(_spread(age))
    low, high = 0.01, 4 * float(x.std()) + 0.1
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_modes(x, middle)) <= 1 else (middle, high)
    rng = np.random.default_rng(0)
    shrink = 1 / np.sqrt(1 + high**2 / x.var())  # a resample has the variance of the ages
    more = 0
    for _ in range(RESAMPLES):
        drawn = rng.choice(x, len(x)) + high * rng.standard_normal(len(x))
        more += len(_modes(x.mean() + shrink * (drawn - drawn.mean()), high * shrink)) > 1
    p = more / RESAMPLES
    if p >= SIGNIFICANT:
        return Peaks("no", p, [round(float(np.expm1(mode)), 1) for mode in _modes(x, high)])
    scale = high
    while len(modes := _modes(x, scale)) < 2:
        scale *= 0.9
    return Peaks("yes", p, [round(float(np.expm1(mode)), 1) for mode in modes])


def _share(chosen: np.ndarray) -> Share | None:
    if not len(chosen):
        return None
    found = int(chosen.sum())
    return Share(found / len(chosen), wilson(found, len(chosen)))


def _spread(age: F) -> F:
    """Ages in whole days are spread over their day, so that rounding makes no peaks."""
    if not np.array_equal(age, np.round(age)):
        return age
    _, day, counts = np.unique(age, return_inverse=True, return_counts=True)
    place = np.arange(len(age)) - np.r_[0, np.cumsum(counts)[:-1]][day]
    return np.asarray(age + (place + 0.5) / counts[day])


def _modes(x: F, bandwidth: float) -> F:
    """The peaks of a Gaussian kernel's density."""
    low, high = x.min() - 3 * bandwidth, x.max() + 3 * bandwidth
    counts, edges = np.histogram(x, GRID, (low, high))
    step = edges[1] - edges[0]
    offsets = np.arange(-GRID, GRID + 1) * step
    kernel = np.exp(-0.5 * (offsets / max(bandwidth, step)) ** 2)
    size = 4 * GRID
    density = np.fft.irfft(np.fft.rfft(counts, size) * np.fft.rfft(kernel, size), size)
    density = density[GRID : 2 * GRID]
    risen = np.diff(np.where(density > 1e-6 * density.max(), density, 0.0))
    risen[np.abs(risen) < 1e-9 * density.max()] = 0.0
    signs = np.flatnonzero(risen)
    turns = signs[1:][(risen[signs[:-1]] > 0) & (risen[signs[1:]] < 0)]
    return np.asarray((edges[:-1] + step / 2)[turns])
