"""What a CRM gets to know of a lead, when that is worth a message, and in which words; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathTypeError

from services.scorer.model.explanation import Line
from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.responses import IdentifiersResponse, LeadResponse, Time
from services.scorer.wording import band, line_in_words, plain, signed
from services.shared.playbook.sections import UNKNOWN, Content, Crm

REASONS = 3
HOUR = 3600
# After the first attempt, in seconds; as Standard Webhooks advises, three days in all.
SCHEDULE = (5, 300, HOUR // 2, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)


# -- when a message is worth sending --------------------------------------------------------------


class ProductNumbers(msgspec.Struct, array_like=True, frozen=True):
    """A lead's numbers for one product, and sales' status of it with its reason."""

    stage: str = UNKNOWN
    qualified: bool = False
    likelihood: float | None = 0.0
    fit: float = 0.0
    engagement: float = 0.0
    sales: str = ""


class Summary(msgspec.Struct, array_like=True, frozen=True):
    """Of a lead, what decides whether there is a message: sales' status of the first product with
    its reason, and the numbers by product. The one last delivered is stored.
    """

    sales: str = ""
    products: dict[str, ProductNumbers] = {}


def summary_of(leads: Mapping[str, LeadView]) -> Summary:
    """The summary of one lead's views by product."""
    numbers = {
        product: ProductNumbers(
            lead.stage,
            lead.qualified,
            lead.likelihood,
            lead.fit.score,
            lead.engagement,
            sales_text(lead.sales_status, lead.sales_reason),
        )
        for product, lead in leads.items()
    }
    return Summary(next(iter(numbers.values())).sales, numbers)


def sales_text(status: str, reason: str) -> str:
    """Sales' status with its reason, in one text; '' without one."""
    return f"{status}: {reason}" if reason else status


def is_worth_a_message(rules: Crm, before: Summary | None, now: Summary) -> bool:
    """Whether something of what the playbook lists under `crm.when` has changed since the summary
    that was last delivered, if any was.
    """
    before = before or Summary()
    if "sales_changed" in rules.when and now.sales != before.sales:
        return True
    return any(
        _changed(rules, before.products.get(name, ProductNumbers()), numbers)
        for name, numbers in now.products.items()
    )


def _changed(rules: Crm, before: ProductNumbers, now: ProductNumbers) -> bool:
    return (
        ("stage_changed" in rules.when and now.stage != before.stage)
        or ("qualified" in rules.when and now.qualified != before.qualified)
        or ("sales_changed" in rules.when and now.sales != before.sales)
        or ("score_moved" in rules.when and _score_moved(rules.min_change, before, now))
    )


def _score_moved(min_change: float, before: ProductNumbers, now: ProductNumbers) -> bool:
    """A band that changes counts as moved, however little the number did."""
    chance = 100 * abs((now.likelihood or 0.0) - (before.likelihood or 0.0))
    change = max(chance, abs(now.fit - before.fit), abs(now.engagement - before.engagement))
    return change >= min_change or band(now.likelihood) != band(before.likelihood)


# -- what stands in a message ---------------------------------------------------------------------


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the lead stands for one product; instead of a likelihood that is not calibrated people
    read its band.
    """

    product: str
    stage: str
    stage_since: Time | None
    confidence: float
    likelihood: float | None
    band: str
    fit: float
    grade: str
    engagement: float
    qualified: bool
    reasons: list[str]
    sales_status: str | None
    sales_reason: str | None


class DocumentLead(msgspec.Struct, frozen=True):
    """Who the lead is."""

    id: str
    traits: dict[str, Any]
    identifiers: IdentifiersResponse


class Document(Standing, frozen=True, kw_only=True):
    """What the playbook's expressions are asked of: the first product's standing at the top; record
    and address are those that were linked last.
    """

    lead: DocumentLead
    external_id: str | None
    email: str | None
    source: str | None
    campaign: str | None
    last_event_at: Time | None
    as_of: Time
    version: int
    products: dict[str, Standing]


class MessageData(msgspec.Struct, frozen=True, kw_only=True):
    """How to find the record in the CRM, and its fields as the playbook makes them."""

    lead: str
    version: int
    system: str
    external_id: str | None
    email: str | None
    fields: dict[str, Any]


class Message(msgspec.Struct, frozen=True):
    """The body of a webhook."""

    type: str
    timestamp: Time
    data: MessageData


def message(
    rules: Crm, leads: Mapping[str, LeadView], reasons: Mapping[str, Sequence[str]]
) -> Message:
    """The message of one lead's views and reasons by product; the first product leads."""
    known = document(rules, leads, reasons)
    asked = msgspec.to_builtins(known)
    fields = {name: _found(expression, asked) for name, expression in rules.fields.items()}
    data = MessageData(
        lead=known.lead.id,
        version=known.version,
        system=rules.system,
        external_id=known.external_id,
        email=known.email,
        fields=fields,
    )
    return Message("lead.scored", known.as_of, data)


def document(
    rules: Crm, leads: Mapping[str, LeadView], reasons: Mapping[str, Sequence[str]]
) -> Document:
    """The document of one lead's views and reasons by product."""
    standings = {
        product: _standing(LeadResponse.of(lead), reasons[product])
        for product, lead in leads.items()
    }
    first = LeadResponse.of(next(iter(leads.values())))
    system = rules.system.strip().lower()
    externals = [given.id for given in first.identifiers.external_id if given.system == system]
    return Document(
        lead=DocumentLead(first.id, first.traits, first.identifiers),
        external_id=next(iter(externals), None),
        email=next(iter(first.identifiers.email), None),
        source=first.source,
        campaign=first.campaign,
        last_event_at=first.last_event_at,
        as_of=first.as_of,
        version=first.version,
        products=standings,
        **msgspec.structs.asdict(next(iter(standings.values()))),
    )


def _standing(lead: LeadResponse, reasons: Sequence[str]) -> Standing:
    likelihood = lead.likelihood if lead.calibrated else None
    return Standing(
        product=lead.product,
        stage=lead.stage,
        stage_since=lead.stage_since,
        confidence=round(lead.confidence, 3),
        likelihood=None if likelihood is None else round(likelihood, 4),
        band=band(lead.likelihood) or "settled",
        fit=round(lead.fit.score, 1),
        grade=lead.fit.grade,
        engagement=round(lead.engagement, 1),
        qualified=lead.qualified,
        reasons=list(reasons),
        sales_status=lead.sales_status,
        sales_reason=lead.sales_reason,
    )


def _found(expression: str, asked: Any) -> Any:
    try:
        return jmespath.search(expression, asked)
    except JMESPathTypeError:
        return None  # the lead lacks what the expression joins or compares


def top_reasons(lines: Sequence[Line], library: Mapping[str, Content]) -> list[str]:
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
