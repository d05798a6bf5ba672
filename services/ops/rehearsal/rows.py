"""The lines of touches.jsonl and events.jsonl: what is needed to check every rule from outside."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from services.nurture.rules.choice import MOST_COMMERCIAL
from services.nurture.rules.consent import why_not_by
from services.nurture.rules.grounds import Rules
from services.nurture.rules.holdout import arm_of_lead
from services.nurture.rules.lead import Lead
from services.nurture.rules.time_zones import country_of, zones_of
from services.ops.rehearsal.cast import Actor
from services.ops.rehearsal.run import Act
from services.shared.clock import from_us, rfc3339
from services.shared.contracts.events import Snapshot, Touch
from services.shared.contracts.holdout import Arm
from services.shared.playbook.sections import UNKNOWN

Row = dict[str, Any]


class Rows:
    """Lines of decisions that are final."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._arms: dict[str, Arm] = {}  # by lead
        self.rows: list[Row] = []

    def held_out(self, actor: Actor) -> bool:
        """Whether the account of a lead is in the hold-out."""
        return self._arm(actor) == "holdout"

    def _arm(self, actor: Actor) -> Arm:
        if actor.id not in self._arms:
            lead = Lead(actor.id, Snapshot(stage=UNKNOWN, email=actor.person.email))
            arm = arm_of_lead(lead, self._rules.playbook.holdout, self._rules.cleaner)
            self._arms[actor.id] = arm
        return self._arms[actor.id]

    def decided(self, actor: Actor, touch: Touch, lead: Lead, now: datetime) -> None:
        """Adds a touch that was sent or withheld, with the lead as it was then."""
        rules, snapshot = self._rules, lead.snapshot
        playbook = rules.playbook
        item = playbook.content_by_id.get(touch.content)
        zone = zones_of(snapshot.traits, playbook.company.timezone)[0]
        asked = lead.phone_consent if touch.channel == "call" else lead.consent
        double_opt_in = playbook.consent.double_opt_in
        why_not = why_not_by(touch.channel, lead, double_opt_in=double_opt_in)
        sent = touch.status == "sent"
        limits = self._limits(touch, lead)
        self.rows.append({
            "lead": actor.id,
            "account": actor.person.email.rpartition("@")[2],
            "program": touch.program or None,
            "announcement": touch.announcement or None,
            "at": rfc3339(now),
            "local": now.astimezone(zone).isoformat(),
            "stage": touch.stage,
            "belief": snapshot.belief,
            "sales_status": snapshot.sales_status or None,
            "content": item.id if item else None,
            **limits,
            "channel": touch.channel or None,
            "purpose": _purpose(touch, rules),
            "decision": "sent" if sent else "withheld",
            "reason": None if sent else touch.reason,
            "arm": self._arm(actor),
            "propensity": 1.0 if touch.propensity is None else touch.propensity,
            "consent_since": rfc3339(asked.at) if asked and not why_not else None,
            "touch": touch.id,
            "follows": touch.follows or None,
            "product": touch.product,
            "persona": touch.persona or None,
            "country": country_of(snapshot.traits, playbook.company.timezone) or None,
            "why": touch.why,
        })  # fmt: skip

    def _limits(self, touch: Touch, lead: Lead) -> Row:
        """The bounds that held for the decision: what was asked for is bound by neither stage,
        distance nor prerequisites, what comes by the calendar by neither stage nor prerequisites.
        """
        playbook, library = self._rules.playbook, self._rules.library
        item = playbook.content_by_id.get(touch.content)
        is_free = touch.requested or library.by_calendar(lead)
        every = [UNKNOWN, *playbook.stages] if is_free else item.stages if item else []
        return {
            "content_stages": every if item else [],
            "distance": item.distance if item else None,
            "max_distance": MOST_COMMERCIAL
            if touch.requested
            else library.max_distance(lead, touch.stage),
            "prerequisites": item.prerequisites if item and not is_free else [],
        }


def _purpose(touch: Touch, rules: Rules) -> str | None:
    if touch.requested:
        return "service"
    item = rules.playbook.content_by_id.get(touch.content)
    return item.purpose if item else None


def lines(rows: Iterable[Row]) -> bytes:
    """As JSON Lines, in the order of their times."""
    ordered = sorted(rows, key=lambda row: (row["at"], row["lead"], row["touch"] or ""))
    return b"".join(msgspec.json.encode(row) + b"\n" for row in ordered)


def act_lines(acts: Iterable[Act]) -> bytes:
    """What leads did as JSON Lines, in the order of their times."""
    ordered = sorted(acts, key=lambda act: tuple(map(str, (f"{act.at:020d}", *act))))
    return b"".join(
        msgspec.json.encode(act._asdict() | {"at": rfc3339(from_us(act.at))}) + b"\n"
        for act in ordered
    )
