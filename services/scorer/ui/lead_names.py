"""What leads are called in lists."""

import uuid
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.failing import FailingLeads
from services.scorer.queries.lead_view import LeadView
from services.scorer.store import Store
from services.scorer.ui.repository import PageRepository
from services.scorer.wording import LeadName, name_of


async def names_of(engine: AsyncEngine, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The names of leads of which only the id is known; one that cannot be read is marked, and
    named by its id.
    """
    leads = list(leads)
    async with engine.connect() as connection:
        profiles, unreadable = await PageRepository(connection).profiles(leads)
        identifiers = await Store(connection).identifiers(leads)
    if unreadable:
        async with engine.begin() as connection:
            await FailingLeads(connection).note(unreadable, "page")
    return {lead: str(lead) for lead in unreadable} | {
        lead: name_of(
            profile.known_traits(), profile.last_linked_first(identifiers.get(lead, []))
        ).name
        for lead, profile in profiles.items()
    }


def names_of_views(leads: Iterable[LeadView]) -> dict[uuid.UUID, LeadName]:
    """The names of leads that were read, with what tells them apart."""
    return {lead.id: name_of(lead.traits, lead.identifiers) for lead in leads}
