"""The yardstick: a plain points score with the best thresholds that there are for these very
people.
"""

from collections.abc import Iterable, Sequence

POINTS = {
    "page_viewed": 1.0, "link_clicked": 1.0, "social_engaged": 1.0, "ad_clicked": 1.0,
    "survey_answered": 3.0,
    "content_downloaded": 5.0, "form_submitted": 5.0, "video_watched": 3.0, "email_clicked": 3.0,
    "webinar_registered": 5.0, "webinar_attended": 10.0, "email_replied": 10.0,
    "pricing_viewed": 10.0,
    "enquired": 15.0, "call_held": 15.0, "meeting_held": 20.0, "demo_requested": 30.0,
    "trial_started": 30.0,
    "unsubscribed": -20.0,
}  # fmt: skip


def score(types: Iterable[str]) -> float:
    """Points without decay: what was ever done counts for ever."""
    return sum(POINTS.get(type_, 0.0) for type_ in types)


def macro_recall(pairs: Iterable[tuple[str, str]]) -> float | None:
    """Mean over the true stages of the share that was named right, from pairs (true, named)."""
    right: dict[str, list[bool]] = {}
    for true, named in pairs:
        right.setdefault(true, []).append(true == named)
    return sum(sum(hits) / len(hits) for hits in right.values()) / len(right) if right else None


def best_macro_recall(scored: Sequence[tuple[float, int]]) -> float | None:
    """The highest macro recall that any rising thresholds reach on pairs (score, true class),
    exactly.

    Classes in their order own consecutive stretches of the score; the best cuts are found by
    dynamic programming, with the truth at hand, so no real points score does as well.
    """
    if not scored:
        return None
    classes = sorted({true for _, true in scored})
    weight = {
        true: 1 / (len(classes) * sum(other == true for _, other in scored)) for true in classes
    }
    gains: dict[float, dict[int, float]] = {}
    for value, true in scored:
        here = gains.setdefault(value, {})
        here[true] = here.get(true, 0.0) + weight[true]
    best = [0.0] * len(classes)
    for value in sorted(gains):
        reached = 0.0
        for place, true in enumerate(classes):
            reached = max(reached, best[place])  # this score may be the first of its class
            best[place] = reached + gains[value].get(true, 0.0)
    return max(best)
