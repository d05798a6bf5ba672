"""What people read first of a lead: the reasons, how long they last, how much hangs on a single
event, and what came of leads like it.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from services.scorer.learning.alike import LEAST as LEAST_ALIKE
from services.scorer.learning.alike import band_of
from services.scorer.model.explanation import Ledger
from services.scorer.model.outlook import Person, lasts_until, without_strongest
from services.scorer.model.state import FoldState
from services.scorer.model.window import Known
from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.lines import Words, day_of
from services.scorer.queries.reasons import Ground, reasons
from services.scorer.scoring import Scoring
from services.scorer.wording import BANDS, SIGNALS, TYPES, chance, count_of, line_in_words, name_of
from services.shared.clock import from_us, local_time
from services.shared.playbook.sections import Playbook

ENDED = "the outcome has happened"


class BestBefore(msgspec.Struct, frozen=True, kw_only=True):
    """The day by which silence alone takes the likelihood below `threshold`; without a day `why`
    says why there is none.
    """

    day: date | None
    threshold: float | None
    why: str


class Fragility(msgspec.Struct, frozen=True, kw_only=True):
    """The likelihood had the event that raised it most not happened, None where it ended the
    count.
    """

    likelihood: float | None
    event_id: str
    text: str
    at: int


class Alike(msgspec.Struct, frozen=True, kw_only=True):
    """Of leads whose likelihood lay from `low` to below `high`, and whose horizon has ended: how
    many there were, and how many had the outcome.
    """

    leads: int
    outcomes: int
    low: float
    high: float
    text: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What people read first; where `fragility` or `alike` is None, the sentence beside it says
    why.
    """

    sentence: str
    grounds_for: list[Ground]
    ground_against: Ground | None
    best_before: BestBefore
    fragility: Fragility | None
    fragility_why: str
    alike: Alike | None
    alike_why: str


def words_of(playbook: Playbook) -> Words:
    """What the playbook's leads are put into words with."""
    return Words(playbook.content_by_id, playbook.model, ZoneInfo(playbook.company.timezone))


def summary(
    scoring: Scoring,
    lead: LeadView,
    state: FoldState,
    known: Known,
    ledger: Ledger,
    alike: Mapping[str, Any] | None,
) -> Summary:
    """The summary of a lead with this state, of these events; `alike` is what the last check
    found.
    """
    words, fold = words_of(scoring.playbook), scoring.fold
    name = name_of(lead.traits, lead.identifiers).name
    why = reasons(ledger, words, name)
    (fit,), effects = fold.persons([known.profile.fit_traits()])
    person = Person(fit, effects[0] if effects else None)
    fragility, fragility_why = _fragility(scoring, known, ledger, person, words)
    same, same_why = _alike(lead.likelihood, alike, scoring.playbook)
    return Summary(
        sentence=why.sentence,
        grounds_for=why.grounds_for,
        ground_against=why.ground_against,
        best_before=_best_before(scoring, lead, state, person, words),
        fragility=fragility,
        fragility_why=fragility_why,
        alike=same,
        alike_why=same_why,
    )


def threshold_of(likelihood: float, playbook: Playbook) -> float | None:
    """What a lead falls below next: the least likelihood of a hand-off, where the playbook has one,
    else the lower end of its band; None in the lowest.
    """
    if least := playbook.handoff.min_likelihood:
        return least
    return next((band.least for band in BANDS if 0 < band.least <= likelihood), None)


def _best_before(
    scoring: Scoring, lead: LeadView, state: FoldState, person: Person, words: Words
) -> BestBefore:
    if lead.likelihood is None:
        return BestBefore(day=None, threshold=None, why=ENDED)
    threshold = threshold_of(lead.likelihood, scoring.playbook)
    if threshold is None:
        return BestBefore(day=None, threshold=None, why="it is in the lowest band already")
    if lead.likelihood < threshold:
        return BestBefore(day=None, threshold=threshold, why=f"it is below {threshold:g} already")
    until = lasts_until(scoring.fold, state, lead.as_of, person, threshold)
    if until is None:
        why = f"a year of silence does not take it below {threshold:g}"
        return BestBefore(day=None, threshold=threshold, why=why)
    day = day_of(until, lead.as_of, words)
    return BestBefore(
        day=local_time(from_us(until), words.zone).date(),
        threshold=threshold,
        why=f"silence alone takes it below {threshold:g} by {day}",
    )


def _fragility(
    scoring: Scoring, known: Known, ledger: Ledger, person: Person, words: Words
) -> tuple[Fragility | None, str]:
    if ledger.likelihood is None:
        return None, ENDED
    found = without_strongest(scoring.fold, ledger, known.events, person)
    if found is None:
        return None, "no event has raised it"
    line = found.line
    return Fragility(
        likelihood=found.likelihood,
        event_id=line.event_id or "",
        text=line_in_words(line, words.library),
        at=line.at,
    ), ""


def _alike(
    likelihood: float | None, found: Mapping[str, Any] | None, playbook: Playbook
) -> tuple[Alike | None, str]:
    if likelihood is None:
        return None, ENDED
    if not found:
        return None, "predictions have not been compared with outcomes yet; that is done nightly"
    if found["version"] != playbook.model.version:
        return None, "the model in use has not been compared with outcomes yet"
    if not found["bands"]:
        return None, "no prediction has matured yet"
    band = band_of(found, likelihood)
    if band.leads < LEAST_ALIKE:
        few = count_of(band.leads, "lead")
        return None, f"{few} like this one had time for the outcome, fewer than {LEAST_ALIKE}"
    reached = f"{band.outcomes} {_reached(playbook.model.outcome, band.outcomes)}"
    text = f"{band.leads} leads like this one, {reached}"
    return Alike(**band._asdict(), text=text), ""


def _reached(outcome: str, count: int) -> str:
    """The outcome, of so many leads."""
    if outcome == "opportunity_opened":
        return SIGNALS["outcome"] if count == 1 else "became opportunities"
    return TYPES.get(outcome) or f"reached {outcome.replace('_', ' ')}"


def outlook_in_words(found: Summary, lead: LeadView, words: Words) -> list[str]:
    """How long it lasts, how much hangs on one event, and what came of leads like it, as people
    read it: without numbers until they are calibrated.
    """
    sentences = [_best_before_in_words(found.best_before, lead, words)]
    if fragile := found.fragility:
        left, is_now = (
            chance(each, calibrated=lead.calibrated)
            for each in (fragile.likelihood, lead.likelihood)
        )
        event = f"{fragile.text}, {day_of(fragile.at, lead.as_of, words)}"
        still = "still be" if left == is_now else "be"
        sentences.append(f"Without its strongest event ({event}) the chance would {still} {left}.")
    sentences.append(
        f"{found.alike.text}." if found.alike else f"Leads like this one: {found.alike_why}."
    )
    return sentences


def _best_before_in_words(best: BestBefore, lead: LeadView, words: Words) -> str:
    if best.threshold is None:
        return f"No best-before day: {best.why}."
    least = "what a hand-off needs"
    if lead.calibrated:
        least = f"{100 * best.threshold:.0f} %"
    elif name := next((band.name for band in BANDS if band.least == best.threshold), ""):
        least = f"the band “{name}”"
    if best.day:
        day = f"{best.day.day} {best.day:%B %Y}"
        return f"Best before {day}: silence alone takes it below {least} by then."
    is_below = (lead.likelihood or 0.0) < best.threshold
    why = "it is below {} already" if is_below else "a year of silence does not take it below {}"
    return f"No best-before day: {why.format(least)}."
