"""What `ripeline lead show` reads: one lead with its summary and ledger."""

import uuid
from typing import NamedTuple

from services.scorer.models import current
from services.scorer.queries.leads import LeadInFull, LeadQueries
from services.scorer.queries.lines import Words
from services.scorer.queries.lookup import LookupBody, identifier_of, lead_reference
from services.scorer.queries.repository import MergedAway
from services.scorer.queries.summary import words_of
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.errors import Reject
from services.shared.playbook.loading import load
from services.shared.settings import Settings


class Shown(NamedTuple):
    """A lead, and what its lines are put into words with."""

    found: LeadInFull
    words: Words


async def show(settings: Settings, named: str, product: str, at: int | None) -> Shown:
    """The lead of an id, a mail address or SYSTEM:ID, now or at `at` (µs). Raises Reject."""
    engine = open_engine(settings)
    try:
        in_use = await current(engine, load(settings.playbook))
        scoring = Scoring.of(in_use.playbook, Clock.parse(settings.clock))
        products = scoring.playbook.products
        if product and product not in products:
            raise Reject(f"no product {product!r}", where="--product",
                         remedy=f"use one of {', '.join(products)}")  # fmt: skip
        queries = LeadQueries(engine, scoring, settings.pepper.get_secret_value().encode())
        lead_id, product = await _id_of(queries, scoring, named), product or products[0]
        try:
            found = await queries.in_full(lead_id, product, at)
        except MergedAway as merged:
            found = await queries.in_full(merged.into, product, at)
        return Shown(found, words_of(scoring.playbook))
    finally:
        await engine.dispose()


async def _id_of(queries: LeadQueries, scoring: Scoring, named: str) -> uuid.UUID:
    if "@" in named:
        identifier = identifier_of(scoring.cleaner, LookupBody(email=named), "LEAD")
        return await queries.look_up(identifier, "LEAD")
    if ":" not in named and not _is_id(named):
        raise Reject(f"{named!r} names no lead", where="LEAD",
                     remedy="give its id, a mail address, or SYSTEM:ID")  # fmt: skip
    reference = lead_reference(scoring.cleaner, named)
    if isinstance(reference, uuid.UUID):
        return reference
    return await queries.look_up(reference, "LEAD")


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
