"""Whether leads come ready or become so: their age at conversion, and whether it has two peaks."""

import msgspec
import numpy as np

from services.scorer.reports.journeys import F, Journeys
from services.scorer.reports.shares import Share, share_of

EARLY, LATE = 7.0, 60.0  # days
FOLLOW_UP = 180.0  # days for which leads must be known, so that late conversions are not missed
LEAST_OUTCOMES = 50  # for a test of peaks
EDGES = (0.0, 1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 90.0, 120.0, 180.0, 365.0)
GRID = 512
RESAMPLES = 300
SIGNIFICANT = 0.05


class Bar(msgspec.Struct, frozen=True):
    """Outcomes at an age above `low` days (the first bar: from it on) and up to `high`."""

    low: float
    high: float
    outcomes: int


class Peaks(msgspec.Struct, frozen=True):
    """Whether the ages have two peaks: `yes`, `no` or `too few`; the probability of such ages with
    one peak; where the peaks of the estimated density are, in days.
    """

    answer: str
    p: float | None
    days: list[float]


class Shares(msgspec.Struct, frozen=True):
    """Shares of the outcomes; None where leads are not followed for long enough to tell."""

    outcomes: int
    within_7_days: Share | None
    after_60_days: Share | None


class MadeOrBorn(msgspec.Struct, frozen=True):
    """Of the leads that are known for `follow_up_days`: their number, their outcomes within that
    time, and the ages at them. `too_young` are known for less and left out; `as_counted` are the
    shares of all outcomes, which overrate early ones.
    """

    follow_up_days: float
    leads: int
    too_young: int
    outcomes: int
    began_with_the_outcome: int
    median_age_days: float | None
    within_7_days: Share | None
    after_60_days: Share | None
    histogram: list[Bar]
    two_peaks: Peaks
    as_counted: Shares
    says: list[str]


def made_or_born(journeys: Journeys, follow_up: float = FOLLOW_UP) -> MadeOrBorn:
    """Ages at conversion within `follow_up` days, of the leads that are known for so long: younger
    leads can only have converted early. Where fewer than half of the leads are, the whole days for
    which half of them are count instead.
    """
    known_for = journeys.until - journeys.began
    if len(known_for):
        follow_up = float(min(follow_up, np.floor(np.median(known_for))))
    chosen = journeys.followed(follow_up)
    every = journeys.age[~np.isnan(journeys.reached)]
    age = journeys.age[chosen]
    age = np.sort(age[age <= follow_up])
    found = MadeOrBorn(
        follow_up_days=follow_up,
        leads=int(chosen.sum()),
        too_young=int((~chosen).sum()),
        outcomes=len(age),
        began_with_the_outcome=int((age == 0).sum()),
        median_age_days=float(np.median(age)) if len(age) else None,
        within_7_days=_share(age <= EARLY) if follow_up >= EARLY else None,
        after_60_days=_share(age > LATE) if follow_up > LATE else None,
        histogram=_histogram(age, follow_up),
        two_peaks=two_peaks(age),
        as_counted=Shares(len(every), _share(every <= EARLY), _share(every > LATE)),
        says=[],
    )
    return msgspec.structs.replace(found, says=_says(found))


def _histogram(age: F, follow_up: float) -> list[Bar]:
    edges = [edge for edge in EDGES if edge < follow_up]
    edges = [*edges, follow_up] if edges else []
    counts = np.bincount(np.maximum(np.searchsorted(edges, age), 1), minlength=len(edges) or 1)
    return [
        Bar(low, high, int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts[1:], strict=True)
    ]


def _says(found: MadeOrBorn) -> list[str]:
    """The findings in words, and what they do not tell."""
    if not found.outcomes:
        return [
            f"None of the {found.leads} leads that are known for {found.follow_up_days:g} days has "
            "the outcome: this says nothing yet."
        ]
    said = [
        f"Only the {found.leads} leads that are known for {found.follow_up_days:g} days count, and "
        f"only outcomes within that time: the {found.too_young} younger ones can only have "
        "converted early."
    ]
    for share, words in ((found.within_7_days, "come within 7 days"),
                         (found.after_60_days, "come after more than 60 days")):  # fmt: skip
        if share:
            low, high = share.interval
            said.append(f"{share.share:.0%} of the outcomes {words} ({low:.0%} to {high:.0%}).")
    if found.after_60_days is None:
        said.append(
            f"What comes after 60 days cannot be told: half of the leads are known for no more "
            f"than {found.follow_up_days:g} days."
        )
    said.append(_PEAKS[found.two_peaks.answer])
    return said


_PEAKS = {
    "yes": "The ages have more than one peak: some leads come ready, others become so.",
    "no": "The ages do not show two peaks: they may all be of one kind.",
    "too few": f"Whether there are two peaks cannot be told from fewer than {LEAST_OUTCOMES} "
    "outcomes.",
}


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
    return share_of(int(chosen.sum()), len(chosen))


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
