"""What a CRM is told of a lead, when that is worth a message, and in which words; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathTypeError

from services.scorer.model.explanation import Line
from services.scorer.wording import band, line_in_words, plain, signed
from services.shared.playbook.sections import UNKNOWN, Content, Crm

REASONS = 3
HOUR = 3600
# After the first attempt, in seconds; as Standard Webhooks advises, three days in all.
SCHEDULE = (5, 300, HOUR // 2, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)


class Numbers(msgspec.Struct, array_like=True, frozen=True):
    """A lead's numbers for one product."""

    stage: str = UNKNOWN
    qualified: bool = False
    likelihood: float | None = 0.0
    fit: float = 0.0
    engagement: float = 0.0


class Told(msgspec.Struct, array_like=True, frozen=True):
    """What the CRM knows from us, as far as it decides on the next message; numbers by product."""

    sales: str = ""
    products: dict[str, Numbers] = {}


def worth_telling(rules: Crm, before: Told | None, now: Told) -> bool:
    """Whether something of what the playbook lists under `crm.when` has changed since the CRM was
    last told.
    """
    before = before or Told()
    if "sales_changed" in rules.when and now.sales != before.sales:
        return True
    return any(
        _changed(rules, before.products.get(name, Numbers()), numbers)
        for name, numbers in now.products.items()
    )


def _changed(rules: Crm, before: Numbers, now: Numbers) -> bool:
    chance = 100 * abs((now.likelihood or 0.0) - (before.likelihood or 0.0))
    moved = (
        max(chance, abs(now.fit - before.fit), abs(now.engagement - before.engagement))
        >= rules.min_change
    )
    return (
        ("stage_changed" in rules.when and now.stage != before.stage)
        or ("qualified" in rules.when and now.qualified != before.qualified)
        or (
            "score_moved" in rules.when
            and (moved or band(now.likelihood) != band(before.likelihood))
        )
    )


def told_of(leads: Mapping[str, Mapping[str, Any]]) -> Told:
    """The same of leads as the API shows them, by product."""
    numbers = {
        product: Numbers(
            lead["stage"],
            lead["qualified"],
            lead["likelihood"],
            lead["fit"]["score"],
            lead["engagement"],
        )
        for product, lead in leads.items()
    }
    first = next(iter(leads.values()))
    return Told(outcome(first["sales_status"], first["sales_reason"]), numbers)


def outcome(status: str | None, reason: str | None) -> str:
    """Sales' last word with its reason, in one text; '' without one."""
    return f"{status}: {reason}" if reason else status or ""


def reasons(lines: Sequence[Line], library: Mapping[str, Content]) -> list[str]:
    """What moved the likelihood most, three at most, largest first, in words with its points."""
    weights: dict[str, float] = {}
    points: dict[str, list[float]] = {}
    for line in lines:
        text = plain(line_in_words(line, library))
        weights[text] = weights.get(text, 0.0) + line.delta
        points.setdefault(text, []).append(line.points)
    largest = sorted(weights, key=lambda text: -abs(weights[text]))[:REASONS]
    return [_reason(text, points[text]) for text in largest]


def _reason(text: str, points: Sequence[float]) -> str:
    times = f", {len(points)} times" if len(points) > 1 else ""
    moved = signed(sum(points))
    # an outcome ends the count and adds nothing
    return f"{text}{times}" if moved == "0.0" else f"{text}{times} ({moved})"


def message(
    rules: Crm, leads: Mapping[str, Mapping[str, Any]], why: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The body of a message, from leads as the API shows them and their reasons, by product; the
    first product leads.
    """
    first = next(iter(leads.values()))
    known = document(rules, leads, why)
    fields = {name: _found(expression, known) for name, expression in rules.fields.items()}
    data = {
        "lead": first["id"], "version": first["version"], "system": rules.system,
        "external_id": known["external_id"],
        "email": known["email"], "fields": fields,
    }  # fmt: skip
    return {"type": "lead.scored", "timestamp": first["as_of"], "data": data}


def document(
    rules: Crm, leads: Mapping[str, Mapping[str, Any]], why: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What the playbook's expressions are asked of."""
    products = {product: _standing(lead, why[product]) for product, lead in leads.items()}
    first = next(iter(leads.values()))
    system = rules.system.strip().lower()
    externals = [
        one["id"] for one in first["identifiers"]["external_id"] if one["system"] == system
    ]
    same = (
        "sales_status",
        "sales_reason",
        "source",
        "campaign",
        "last_event_at",
        "as_of",
        "version",
    )
    return {
        "lead": {"id": first["id"], "traits": first["traits"], "identifiers": first["identifiers"]},
        "external_id": next(iter(externals), None),
        "email": next(iter(first["identifiers"]["email"]), None),
        **{name: first[name] for name in same},
        **next(iter(products.values())),
        "products": products,
    }


def _standing(lead: Mapping[str, Any], why: Sequence[str]) -> dict[str, Any]:
    """Where the lead stands for one product; of a likelihood people see the band until it is
    calibrated.
    """
    return {
        "product": lead["product"],
        "stage": lead["stage"],
        "stage_since": lead["stage_since"],
        "confidence": round(lead["confidence"], 3),
        "likelihood": round(lead["likelihood"], 4)
        if lead["calibrated"] and lead["likelihood"] is not None
        else None,
        "band": band(lead["likelihood"]) or "settled",
        "fit": round(lead["fit"]["score"], 1),
        "grade": lead["fit"]["grade"],
        "engagement": round(lead["engagement"], 1),
        "qualified": lead["qualified"],
        "reasons": list(why),
    }


def _found(expression: str, known: Mapping[str, Any]) -> Any:
    try:
        return jmespath.search(expression, known)
    except JMESPathTypeError:
        return None  # the lead lacks what the expression joins or compares
