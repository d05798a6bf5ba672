"""Leads, playbooks and decisions for tests of nurture's rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.nurture.rules.decision import Send, decide
from services.nurture.rules.grounds import Case, Rules, Withhold, ground_against
from services.nurture.rules.holdout import is_held_out
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.timing import SendTime, send_time
from services.nurture.rules.waits import Waited, earliest
from services.shared.contracts.events import ConsentState, Snapshot
from services.shared.contracts.provenance import decode_provenance
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import Content, Playbook

NOW = datetime(2026, 5, 13, 12, 0, tzinfo=UTC)  # a Wednesday, noon in UTC
GIVEN = ConsentState("given", NOW - timedelta(days=30))


def utc(text: str) -> datetime:
    """The moment of an ISO text, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def item(id: str, **fields: Any) -> Content:
    """An item for awareness."""
    plain: dict[str, Any] = {
        "title": id,
        "stages": ["awareness"],
        "format": "blog",
        "topic": "t",
        "distance": 0,
        "url": f"https://x.example/{id}",
        "call_to_action": "read",
        "subject": "s",
        "body": "b",
    }
    return Content(id=id, **(plain | fields))


def program(*items: str, **fields: Any) -> Program:
    """A live program for awareness with these items."""
    plain: dict[str, Any] = {
        "id": "p",
        "name": "P",
        "goal": "g",
        "stages": ["awareness"],
        "items": list(items),
    }
    return Program(**(plain | fields))


def with_parts(playbook: Playbook, **parts: Any) -> Playbook:
    """The playbook with other parts."""
    return Playbook(**({name: getattr(playbook, name) for name in Playbook.model_fields} | parts))


def make_rules(
    playbook: Playbook, *content: Content, sink: bool = True, share: float = 0.0, **parts: Any
) -> Rules:
    """Rules of the playbook with other content and parts; nobody is held out unless asked for."""
    parts.setdefault("programs", [program(*(item.id for item in content))])
    update = {
        "content": list(content),
        "cadence": playbook.cadence.model_copy(update=parts.pop("cadence", {})),
        "holdout": playbook.holdout.model_copy(update={"share": share}),
        "company": playbook.company.model_copy(update={"timezone": "UTC"}),
        **parts,
    }
    return Rules.of(with_parts(playbook, **update), sink=sink)


def lead(**fields: Any) -> Lead:
    """A lead in awareness that has given its consent; fields are the lead's or its snapshot's."""
    own: dict[str, Any] = {"id": "l", "consent": GIVEN}
    own |= {
        name: fields.pop(name)
        for name in (
            "id",
            "consent",
            "phone_consent",
            "seen",
            "done",
            "had",
            "recent_sends",
            "paused_until",
            "account_with_sales",
        )
        if name in fields
    }
    return Lead(
        **own,
        snapshot=Snapshot(**({"stage": "awareness", "email": "a@b.example"} | fields)),
    )


def trigger(
    stage: str = "awareness", product: str = "default", cause_at: datetime = NOW
) -> Trigger:
    """A stage change of now."""
    return Trigger(stage, product, cause_at)


def imported(mode: str, cause_at: datetime = NOW) -> Trigger:
    """A stage change that an import is behind."""
    return Trigger("awareness", "default", cause_at, decode_provenance(mode))


def decided(rules: Rules, lead: Lead, trigger: Trigger, now: datetime = NOW) -> Send | Withhold:
    """The decision of the first program that answers."""
    programs = rules.library.programs(lead, trigger)
    return decide(rules, lead, trigger, programs[0] if programs else None, now)


def chosen(rules: Rules, lead: Lead, stage: str = "awareness") -> str:
    """The id of the chosen content, else the reason why nothing is sent at once."""
    decision = decided(rules, lead, trigger(stage))
    return decision.reason or decision.content.id if isinstance(decision, Send) else decision.reason


def against(rules: Rules, lead: Lead, now: datetime) -> Withhold | Waited | None:
    """The ground that holds against any content, or what it waits for but the hour."""
    of = rules.playbook.programs[0]
    case = Case(rules, lead, trigger(lead.snapshot.stage), now, of, of.channel)
    if ground := ground_against(case):
        return ground
    waited = earliest(case)
    return waited if waited.reason not in ("", "on_site", "quiet_hours") else None


def goes_out(decision: Send | Withhold, now: datetime = NOW) -> bool:
    """Whether a touch goes out at once."""
    return isinstance(decision, Send) and decision.due_at <= now


def held_out(rules: Rules, lead: Lead) -> bool:
    """Whether the lead's account is in the hold-out."""
    return is_held_out(lead, rules.playbook.holdout, rules.cleaner)


def due(rules: Rules, now: datetime, zone: str = "", act: datetime | None = None) -> SendTime:
    """When a touch may go out to a lead of this zone whose last act was then."""
    traits = {"timezone": zone} if zone else {}
    snapshot = Snapshot(stage="awareness", traits=traits, last_act_at=act)
    return send_time(rules.playbook, snapshot, now)


def asking(days_ago: float = 100, **traits: Any) -> Lead:
    """A lead with such traits whose last mail went out so long ago."""
    return lead(traits={"timezone": "UTC"} | traits, recent_sends=(NOW - timedelta(days=days_ago),))
