"""What the scorer says to others after a fold: stage changes once each, engagement, qualification,
merges.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from services.scorer.model.fold import Fold
from services.scorer.model.profile import ON_SITE, permission
from services.scorer.model.state import View
from services.scorer.records import Announced, Arrival, LeadRow, State
from services.shared.clock import from_us
from services.shared.contracts.consent import consents_of
from services.shared.contracts.events import (
    CHANGES,
    NEW_LEADS,
    TOO_OLD,
    TOUCH_SENT,
    Change,
    ChangeEvent,
    Request,
    Snapshot,
    Word,
    derived,
    encode,
    imported_as,
)
from services.shared.contracts.identity import Kind
from services.shared.contracts.sales import STATUS_OF
from services.shared.messaging.kafka import Outgoing
from services.shared.telemetry import ANNOUNCED

TOO_OLD_US = TOO_OLD // timedelta(microseconds=1)
ENGAGED_EVERY_SECONDS = 300
CONSUMED = ON_SITE - {"preference_set"} | {"email_replied"}
ASKED = frozenset({"demo_requested", "enquired", "trial_started"})
ALWAYS_TOLD = frozenset(
    {
        "email_replied",
        "survey_answered",
        "preference_set",
        "not_now",
        "webinar_attended",
        "event_attended",
    }
)


class Evidence(msgspec.Struct, frozen=True):
    """What a batch brought for one lead."""

    arrivals: list[Arrival] = []
    late: bool = False
    moved: bool = False
    renewed: bool = False
    merged: list[uuid.UUID] = []


NONE = Evidence()


def settle(
    fold: Fold, leads: Sequence[LeadRow], now: int, evidence: Mapping[uuid.UUID, Evidence]
) -> tuple[list[dict[str, Any]], list[Outgoing]]:
    """Looks at leads from `now`, sets their states' views, and returns announcements with all
    outgoing changes.
    """
    pairs = [(lead, state) for lead in leads for state in lead.states.values()]
    moments = [max(now, lead.profile.last_at, state.fold.last_at) for lead, state in pairs]
    fits = [fold.fit.points(lead.profile.fit_traits()) for lead, _ in pairs]
    views = fold.view([state.fold for _, state in pairs], moments, fits) if pairs else []
    said: list[dict[str, Any]] = []
    changes: list[Outgoing] = []
    for (lead, state), moment, view in zip(pairs, moments, views, strict=True):
        state.view, state.as_of = view, moment
        before, state.qualified = (
            state.qualified,
            fold.fit.qualified(view.fit) and not lead.excluded,
        )
        state.snapshot = None
        if state.qualified and not before:
            changes.append(_outgoing("lead.qualified.v1", lead, state, view, from_us(now), NONE))
        found = evidence.get(lead.id, NONE)
        announcement = _announcement(fold, lead, state, view, now, found)
        if announcement:
            said.append(announcement)
            changes.append(_changed(lead, state, view, announcement, found))
    for lead in leads:
        if merged := evidence.get(lead.id, NONE).merged:
            state = next(iter(lead.states.values()))
            if state.view:
                changes.insert(
                    0,
                    _outgoing(
                        "lead.merged.v1", lead, state, state.view, from_us(now), NONE, merged=merged
                    ),
                )
    return said, changes


def _announcement(
    fold: Fold, lead: LeadRow, state: State, view: View, now: int, evidence: Evidence
) -> dict[str, Any] | None:
    """The announcement that is due, numbered; None where the stage is as last said, or nothing may
    be said.
    """
    cause_at = view.stage_since if view.stage_since is not None else now
    if (
        view.stage == state.announced.stage
        or lead.provisional
        or lead.excluded
        or cause_at < now - TOO_OLD_US
    ):
        return None
    if state.fold.last_at < now - TOO_OLD_US or (
        evidence.arrivals and all("old" in a.flags.split() for a in evidence.arrivals)
    ):
        return None
    by = _behind(fold, evidence, cause_at)
    newest = by is not None and by.at >= lead.profile.last_at
    cause = (
        "model" if evidence.renewed
        else "event" if newest
        else "merge" if evidence.moved or evidence.merged
        else "late_evidence" if evidence.late
        else "event" if by
        else "silence"
    )  # fmt: skip
    announced_at, seq = from_us(now), state.announced.seq + 1
    product, before = state.fold.product, state.announced.stage
    state.announced = Announced(view.stage, seq, announced_at)
    ANNOUNCED.labels(view.stage, cause).inc()
    return {
        "id": derived(lead.id, product, seq),
        "lead_id": lead.id,
        "product": product,
        "seq": seq,
        "from_stage": before,
        "stage": view.stage,
        "cause": cause,
        "cause_at": from_us(cause_at),
        "cause_event": by.data.id if by else "",
        "likelihood": view.likelihood,
        "fold_hash": fold.playbook.fold_hash,
        "announced_at": announced_at,
    }


def _behind(fold: Fold, evidence: Evidence, at: int) -> Arrival | None:
    """The new event of that instant that made the stage: one that forces it, else the last in the
    fold's order.
    """
    there = sorted(
        (a for a in evidence.arrivals if a.at == at and fold.weighs(a.data)), key=lambda a: a.uid
    )
    forcing = [
        a for a in there if fold.interpreter.interpret(a.data).signal in ("demo", "purchase")
    ]
    best = forcing or there
    return best[-1] if best else None


def _changed(
    lead: LeadRow, state: State, view: View, said: dict[str, Any], evidence: Evidence
) -> Outgoing:
    change = Change(
        lead=str(lead.id),
        version=lead.version,
        product=said["product"],
        seq=said["seq"],
        from_stage=said["from_stage"],
        stage=said["stage"],
        cause=said["cause"],
        cause_at=said["cause_at"],
        cause_event=said["cause_event"],
        announced_at=said["announced_at"],
        snapshot=_snapshot(lead, state, view),
        imported=imported(evidence),
    )
    posted = max((arrival.posted_at for arrival in evidence.arrivals), default=0.0)
    event = ChangeEvent(
        id=said["id"],
        type="lead.stage_changed.v1",
        time=said["announced_at"],
        data=change,
        postedat=posted,
    )
    return Outgoing(CHANGES, str(lead.id), encode(event))


def _snapshot(lead: LeadRow, state: State, view: View) -> Snapshot:
    """The snapshot of this look, made where it is first told."""
    if state.snapshot is None:
        state.snapshot = snapshot(lead, state, view)
    return state.snapshot


def imported(evidence: Evidence) -> str:
    """What an import says that it is, where nothing else is behind a change; of several, new leads
    over the longest time.
    """
    said = {
        imported_as(a.flags)
        for a in evidence.arrivals
        if not a.data.machine and a.data.type != TOUCH_SENT
    }
    return (
        ""
        if "" in said
        else max(said, default="", key=lambda word: (word.startswith(NEW_LEADS), len(word), word))
    )


def snapshot(lead: LeadRow, state: State, view: View) -> Snapshot:
    """What nurture needs to know of the lead; an address that belongs to several people is nobody's
    to write to.
    """
    profile = lead.profile
    owned = [one.value for one in lead.identifiers if one.kind in (Kind.EMAIL, Kind.ROLE)]
    address = profile.email if profile.email in owned else next(iter(owned), "")
    consents: dict[str, Word] = {}
    for key in profile.consent:
        _, channel, purpose = key.split("\t")
        if said := permission(profile, address, channel, purpose):
            state_word = "withdrawn" if said.refused else "given"
            consents[f"{channel}:{purpose}"] = Word(state_word, from_us(said.at), said.basis)  # type: ignore[arg-type]
    return Snapshot(
        stage=view.stage,
        belief=view.belief,
        likelihood=view.likelihood,
        fit=view.fit,
        qualified=state.qualified,
        product=state.fold.product,
        email=address,
        user_id=next((one.value for one in lead.identifiers if one.kind is Kind.USER), ""),
        traits=profile.known_traits(),
        sales_status=profile.sales.status if profile.sales else "",
        consents=consents,
        last_act_at=from_us(profile.act_at) if profile.act_at > 0 else None,
    )


def engaged(fold: Fold, lead: LeadRow, evidence: Evidence, now: datetime) -> list[Outgoing]:
    """Content consumed, answers, permissions and sales' words at once; any other human act at most
    every five minutes.

    Such another act of a lead of which nothing was ever told stays untold: what is told later
    carries a snapshot of its own.
    """
    human, telling, sales = False, evidence.moved, False
    content: set[str] = set()
    requests: list[Request] = []
    for arrival in evidence.arrivals:
        data = arrival.data
        if data.machine or data.type == TOUCH_SENT:
            continue
        human, reading = True, fold.interpreter.interpret(data)
        if reading.content and data.type in CONSUMED:
            content.add(reading.content)
        if reading.type in ASKED or (data.type == "form_submitted" and reading.content):
            requests.append(
                Request(
                    arrival.uid,
                    reading.type,
                    from_us(arrival.at),
                    reading.content,
                    imported_as(arrival.flags),
                )
            )
        sales = sales or data.type in STATUS_OF or data.type.startswith("sales_")
        telling = telling or data.type in ALWAYS_TOLD or bool(consents_of(data))
    if not human or not (telling or sales or content or requests or _rested(lead, now)):
        return []
    lead.engaged_at = now
    kind = "lead.sales_changed.v1" if sales else "lead.engaged.v1"
    return [
        _outgoing(
            kind,
            lead,
            state,
            state.view,
            now,
            evidence,
            content=tuple(sorted(content)),
            requests=tuple(requests),
        )
        for state in lead.states.values()
        if state.view
    ]


def _rested(lead: LeadRow, now: datetime) -> bool:
    """Whether others know the lead and have heard nothing of its acts for a while."""
    if lead.engaged_at:
        return (now - lead.engaged_at).total_seconds() >= ENGAGED_EVERY_SECONDS
    return any(state.announced.at for state in lead.states.values())


def _outgoing(
    kind: str, lead: LeadRow, state: State, view: View, now: datetime, evidence: Evidence,
    *, content: tuple[str, ...] = (), merged: Sequence[uuid.UUID] = (), requests: tuple[Request,
    ...] = (),
) -> Outgoing:  # fmt: skip
    change = Change(
        lead=str(lead.id),
        version=lead.version,
        product=state.fold.product,
        stage=view.stage,
        snapshot=_snapshot(lead, state, view),
        content=content,
        merged=tuple(map(str, merged)),
        requests=requests,
    )
    ids = sorted(arrival.uid for arrival in evidence.arrivals)
    event = ChangeEvent(
        id=derived(kind, lead.id, state.fold.product, lead.version, *ids),
        type=kind,
        time=now,
        data=change,
    )
    return Outgoing(CHANGES, str(lead.id), encode(event))
