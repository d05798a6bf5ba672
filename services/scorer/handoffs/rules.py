"""What becomes of hand-offs: opened, answered by words of sales, joined when people turn out to be
one, and moved on by their clock. Pure: the functions change the hand-offs that they are given and
return what is to be noted of each.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

from services.scorer.handoffs.grounds import Facts, Outlook, Wanted, Word, outlook
from services.scorer.handoffs.records import RANK, Handoff, Status, Step
from services.scorer.handoffs.working_time import WorkingTime
from services.shared.clock import from_us, to_us
from services.shared.contracts.sales import SalesStatus
from services.shared.playbook.handoff import Handoff as Section
from services.shared.playbook.sections import Playbook

MOST_OWNERS = 3  # that are asked one after the other
ANSWERED_BY: dict[SalesStatus, Status] = {
    "accepted": "accepted",
    "opportunity": "accepted",
    "won": "accepted",
    "rejected": "rejected",
    "lost": "rejected",
    "refunded": "rejected",
    "churned": "rejected",
    "disqualified": "disqualified",
    "returned": "returned",
}
CONVERTS: frozenset[SalesStatus] = frozenset({"opportunity", "won"})


class Noted(NamedTuple):
    """A step of a hand-off, as its history keeps it."""

    handoff: Handoff
    what: Step
    at: datetime
    by: str = ""
    reason: str = ""
    until: date | None = None
    note: str = ""


class Examined(NamedTuple):
    """What an examination changed: steps, the new hand-off, if any, whether that waits for no room
    in the week, and when time alone may change something.
    """

    noted: list[Noted]
    new: Handoff | None
    is_urgent: bool
    look_again: datetime | None


class Rules(NamedTuple):
    """The section with the model's stages, the company's working time, and its time zone."""

    section: Section
    stages: Sequence[str]
    working: WorkingTime
    zone: str

    @classmethod
    def of(cls, playbook: Playbook) -> "Rules":
        """The rules of a playbook."""
        section, zone = playbook.handoff, playbook.company.timezone
        return cls(section, playbook.model.stages, WorkingTime.of(section, zone), zone)

    def working_of(self, owner: str) -> WorkingTime:
        """The working time of an owner, by mail address."""
        return WorkingTime.of(self.section, self.zone, self.section.by_email.get(owner))

    def outlook(self, facts: Facts, past: Sequence[Handoff], now: datetime) -> Outlook:
        """For what the lead is to be handed over now."""
        zone = self.working.zone
        return outlook(self.section, self.stages, zone, facts, past, to_us(now))


def examine(
    rules: Rules, lead: UUID, facts: Facts, known: list[Handoff], now: datetime
) -> Examined:
    """Brings a lead's hand-offs in line with what is known of it: 1 words of sales answer, 2 what
    is wanted is opened or kept, 3 of several that wait one stays.
    """
    noted = [*_answered(facts.words, known), *_converted(facts.words, known)]
    view = rules.outlook(facts, known, now)
    waiting = sorted((each for each in known if each.is_waiting), key=_order)
    look_again = from_us(view.look_again) if view.look_again is not None else None
    if facts.is_excluded:
        noted += [_withdrawn(each, now, "the playbook leaves the lead out") for each in waiting]
        return Examined(noted, None, False, look_again)
    kept, new = waiting[0] if waiting else None, None
    if view.wanted and _takes_place(view.wanted, kept):
        same = next((each for each in known if each.id == view.wanted.id), None)
        if same is None:
            kept = new = _new(view.wanted, lead, kept, now)
        elif same.is_waiting or same.status in ("superseded", "withdrawn"):
            noted += [] if same.is_waiting else [_revived(same, now)]
            kept = same
    elif kept and kept.status == "next" and not view.wanted:
        noted.append(_withdrawn(kept, now, "the lead is no longer ready"))
    others = [each for each in waiting if kept and each.is_waiting and each.id != kept.id]
    is_urgent = any(each.status == "open" for each in others)
    _take_first_clock(kept, others)
    noted += [_superseded(each, kept, now) for each in others if kept]
    is_urgent = is_urgent or bool(new and new.kind == "raised_hand")
    return Examined(noted, new, is_urgent, look_again)


def _takes_place(wanted: Wanted, kept: Handoff | None) -> bool:
    """Whether what is wanted comes in the place of what waits: of a request always, as an earlier
    one may have come late; else of what goes behind it.
    """
    if kept is None or wanted.kind == "raised_hand":
        return True
    return RANK[wanted.kind] < RANK[kept.kind]


def _order(handoff: Handoff) -> tuple[int, bool, datetime, str]:
    """Of a kind, what is open goes before what waits for room."""
    began = handoff.opened_at or handoff.detected_at
    return RANK[handoff.kind], handoff.opened_at is None, began, str(handoff.id)


def _new(wanted: Wanted, lead: UUID, before: Handoff | None, now: datetime) -> Handoff:
    """A hand-off; one of the same kind that it takes the place of lends it its clock, any other
    its owner.
    """
    new = Handoff(
        id=wanted.id, lead_id=lead, product=wanted.product, kind=wanted.kind, status="next",
        opener=UUID(wanted.opener), opener_at=from_us(wanted.since), detected_at=now,
    )  # fmt: skip
    if before:
        new.owner, new.why_owner = before.owner, before.why_owner
    if before and before.kind == new.kind:
        _lend(before, new)
    return new


def _lend(before: Handoff, to: Handoff) -> None:
    """Gives a hand-off the clock and the owner of another; what people did with it stays."""
    to.status, to.detected_at = before.status, min(before.detected_at, to.detected_at)
    for name in (
        "owner", "why_owner", "opened_at", "routed_at", "respond_by", "remind_at", "reminded_at",
        "expires_at", "owners_tried", "missed",
    ):  # fmt: skip
        setattr(to, name, getattr(before, name))
    for name in ("told_at", "responded_at", "again_on", "note"):
        setattr(to, name, getattr(to, name) or getattr(before, name))
    to.next_at = next_look(to)


def _take_first_clock(kept: Handoff | None, others: Sequence[Handoff]) -> None:
    """Of several of a kind the clock that began first goes on."""
    alike = [each for each in others if kept and each.kind == kept.kind]
    first = min(alike, key=_order, default=None)
    if kept and first and first.opened_at and _order(first) < _order(kept):
        _lend(first, kept)


def _answered(words: Sequence[Word], known: Sequence[Handoff]) -> list[Noted]:
    """The first word after a hand-off's ground answers it, but for those that come of answers to
    itself: they were kept with it, and may have been taken back since.
    """
    noted = []
    for handoff in known:
        if not handoff.is_waiting:
            continue
        since = to_us(handoff.opener_at)
        own = f"handoff:{handoff.id}:"
        taken_back = handoff.answer_event.hex if handoff.answer_event else ""
        later = (each for each in words if each.at > since and each.uid != taken_back)
        word = next((each for each in later if not each.id.startswith(own)), None)
        if word is None:
            continue
        status = ANSWERED_BY[word.status]
        until = date.fromisoformat(word.until) if word.until else None
        if status == "rejected" and until:
            status = "returned"
        answer(handoff, status, from_us(word.at), word.by, word.reason, until, word.note)
        handoff.answer_event = UUID(word.uid)
        what = cast(Step, status)  # a step is called as the status to which it leads
        at = from_us(word.at)
        noted.append(Noted(handoff, what, at, word.by, word.reason, until, word.note))
    return noted


def answer(
    handoff: Handoff, status: Status, at: datetime, by: str = "", reason: str = "",
    until: date | None = None, note: str = "",
) -> None:  # fmt: skip
    """Ends a hand-off that waits with an answer."""
    handoff.status, handoff.answer, handoff.undo_until = status, "", None
    handoff.answered_at, handoff.answered_by = at, by
    handoff.reason, handoff.until, handoff.note = reason, until, note or handoff.note
    handoff.responded_at = handoff.responded_at or at
    handoff.next_at = None


def _converted(words: Sequence[Word], known: Sequence[Handoff]) -> list[Noted]:
    """What sales won through the last hand-off that it accepted."""
    accepted = [each for each in known if each.status == "accepted"]
    last = max(accepted, key=lambda each: (each.opener_at, str(each.id)), default=None)
    if last is None or last.converted_at:
        return []
    word = next(
        (each for each in words if each.status in CONVERTS and each.at > to_us(last.opener_at)),
        None,
    )
    if word is None:
        return []
    last.converted_to, last.converted_at = word.status, from_us(word.at)
    return [Noted(last, "converted", from_us(word.at), word.by, word.status)]


def _superseded(handoff: Handoff, by: Handoff, now: datetime) -> Noted:
    handoff.status, handoff.superseded_by, handoff.next_at = "superseded", by.id, None
    return Noted(handoff, "superseded", now)


def _revived(handoff: Handoff, now: datetime) -> Noted:
    """What another hand-off had taken the place of waits again, with the clock that it had."""
    handoff.status = "open" if handoff.opened_at else "next"
    handoff.superseded_by, handoff.next_at = None, next_look(handoff)
    return Noted(handoff, "revived", now)


def _withdrawn(handoff: Handoff, now: datetime, why: str) -> Noted:
    handoff.status, handoff.next_at = "withdrawn", None
    return Noted(handoff, "withdrawn", now, note=why)


# -- the clock ------------------------------------------------------------------------------------


def start_clock(rules: Rules, handoff: Handoff, owner: WorkingTime, now: datetime) -> list[Noted]:
    """Opens a hand-off: when its owner is to respond and be reminded, and when it expires, all in
    working time.
    """
    section = rules.section
    handoff.status, handoff.opened_at, handoff.routed_at = "open", now, now
    handoff.respond_by = owner.after_hours(now, _response_hours(section, handoff))
    if section.business_days:
        handoff.expires_at = rules.working.after_days(now, section.expires_days)
        hours = rules.working.hours_between(now, handoff.expires_at)
        handoff.remind_at = rules.working.after_hours(now, hours / 2)
    else:
        handoff.expires_at = rules.working.after_calendar_days(now, section.expires_days)
        handoff.remind_at = now + (handoff.expires_at - now) / 2
    handoff.next_at = next_look(handoff)
    return [Noted(handoff, "opened", now, handoff.owner, note=handoff.why_owner)]


def _response_hours(section: Section, handoff: Handoff) -> float:
    hours: float = getattr(section.response_hours, handoff.kind)
    return hours


def next_look(handoff: Handoff) -> datetime | None:
    """When the clock of an open hand-off has something to say next."""
    if handoff.status != "open":
        return None
    moments = [handoff.expires_at]
    if handoff.remind_at and not handoff.reminded_at:
        moments.append(handoff.remind_at)
    if _is_asked_again(handoff):
        moments.append(handoff.respond_by)
    return min((each for each in moments if each), default=None)


def _is_asked_again(handoff: Handoff) -> bool:
    """Whether a missed response has consequences."""
    return handoff.responded_at is None and handoff.missed < MOST_OWNERS


def tick(handoff: Handoff, now: datetime) -> list[Noted]:
    """Moves an open hand-off on to `now`: its end, else its reminder and a response that is
    missing. Its owner is chosen again where `response_missed` is noted.
    """
    if handoff.status != "open":
        return []
    if handoff.expires_at and now >= handoff.expires_at:
        end = handoff.expires_at
        handoff.status, handoff.answered_at, handoff.next_at = "expired", end, None
        handoff.undo_until = None
        return [Noted(handoff, "expired", end, handoff.owner)]
    if handoff.next_at and now < handoff.next_at:  # examined for something else
        return []
    noted = []
    if handoff.remind_at and not handoff.reminded_at and now >= handoff.remind_at:
        handoff.reminded_at = now
        noted.append(Noted(handoff, "reminded", now, handoff.owner))
    if _is_asked_again(handoff) and handoff.respond_by and now >= handoff.respond_by:
        noted.append(Noted(handoff, "response_missed", handoff.respond_by, handoff.owner))
        handoff.missed += 1
    handoff.next_at = next_look(handoff)
    if handoff.next_at and handoff.next_at <= now:  # the response that is missing
        handoff.next_at = now + timedelta(hours=1)
    return noted


def reassign(
    rules: Rules, handoff: Handoff, owner: str, why: str, working: WorkingTime, now: datetime
) -> list[Noted]:
    """Gives an open hand-off to another owner, who has as long to respond; its end stays."""
    handoff.owners_tried = [*handoff.owners_tried, handoff.owner]
    handoff.owner, handoff.why_owner, handoff.routed_at = owner, why, now
    due = working.after_hours(now, _response_hours(rules.section, handoff))
    handoff.respond_by = min(due, handoff.expires_at) if handoff.expires_at else due
    handoff.next_at = next_look(handoff)
    return [Noted(handoff, "reassigned", now, owner, note=why)]
