"""The summary of a lead as the API answers with it."""

from typing import Annotated

import msgspec

from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.reasons import Ground
from services.scorer.queries.responses import LeadResponse, Time
from services.scorer.queries.summary import Fragility, Summary
from services.shared.clock import from_us, rfc3339

Day = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date"})]


class GroundResponse(msgspec.Struct, frozen=True):
    """Acts of one kind on one content, or one silence, whose `acts` are 0: what and when, and why
    it counts so. `at` is the last act, or the end of the silence; `content` is a title. `delta` is
    log-odds, `points` that of the probability, times 100, both over all of it.
    """

    text: str
    why: str
    at: Time
    acts: int
    content: str | None
    delta: float
    points: float

    @classmethod
    def of(cls, ground: Ground) -> "GroundResponse":
        """The ground as JSON."""
        return cls(
            text=ground.text,
            why=ground.why,
            at=_time(ground.at),
            acts=ground.acts,
            content=ground.content or None,
            delta=ground.delta,
            points=ground.points,
        )


class FragilityResponse(msgspec.Struct, frozen=True):
    """The `likelihood` had the event that raised it most not happened; null where it could not be
    without it.
    """

    likelihood: float | None
    event_id: str
    text: str
    at: Time

    @classmethod
    def of(cls, found: Fragility) -> "FragilityResponse":
        """The same as JSON."""
        return cls(found.likelihood, found.event_id, found.text, _time(found.at))


class AlikeResponse(msgspec.Struct, frozen=True):
    """Leads whose likelihood lay from `low` to below `high` and whose horizon has ended: how many
    there were, and how many of them had the outcome. `text` says it.
    """

    leads: int
    outcomes: int
    low: float
    high: float
    text: str


class SummaryResponse(msgspec.Struct, frozen=True):
    """What people read first: one sentence, at most three grounds for and one against.

    `best_before` is the day by which silence alone takes the likelihood below
    `best_before_threshold`: the playbook's `handoff.min_likelihood`, else the lower end of the
    lead's band. Where it, `fragility` or `alike` is null, the sentence beside it says why.
    """

    sentence: str
    grounds_for: list[GroundResponse]
    ground_against: GroundResponse | None
    best_before: Day | None
    best_before_threshold: float | None
    best_before_why: str
    fragility: FragilityResponse | None
    fragility_why: str
    alike: AlikeResponse | None
    alike_why: str

    @classmethod
    def of(cls, found: Summary) -> "SummaryResponse":
        """The summary as JSON."""
        best, alike = found.best_before, found.alike
        against = found.ground_against
        return cls(
            sentence=found.sentence,
            grounds_for=[GroundResponse.of(ground) for ground in found.grounds_for],
            ground_against=GroundResponse.of(against) if against else None,
            best_before=best.day.isoformat() if best.day else None,
            best_before_threshold=best.threshold,
            best_before_why=best.why,
            fragility=FragilityResponse.of(found.fragility) if found.fragility else None,
            fragility_why=found.fragility_why,
            alike=AlikeResponse(**msgspec.structs.asdict(alike)) if alike else None,
            alike_why=found.alike_why,
        )


class LeadInFullResponse(LeadResponse, frozen=True):
    """One lead with the `summary` of why: null where it is not asked for (`summary=true`)."""

    summary: SummaryResponse | None

    @classmethod
    def in_full(cls, lead: LeadView, found: Summary | None) -> "LeadInFullResponse":
        """The lead and its summary as JSON."""
        short = LeadResponse.of(lead)
        fields = {name: getattr(short, name) for name in LeadResponse.__struct_fields__}
        return cls(**fields, summary=SummaryResponse.of(found) if found else None)


def _time(instant: int) -> str:
    return rfc3339(from_us(instant))
