"""The profiles of a batch's leads while stored events leave the set or change hands."""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from services.scorer.model.profile import UNCOUNTED, Profile, add
from services.scorer.model.state import Event
from services.scorer.model.taking_out import take_out
from services.scorer.records import LeadRow
from services.shared.clock import to_us
from services.shared.contracts.events import decode_interaction


class Profiles:
    """Keeps the profiles of locked leads up to date, in place, and makes those of new ones.

    The `lost` leads are those whose profile can be made of all their events alone.
    """

    def __init__(self, leads: Mapping[uuid.UUID, LeadRow], declared: frozenset[str]) -> None:
        self._declared = declared
        self._known = {lead: row.profile for lead, row in leads.items()}
        self.lost = {lead for lead, each in self._known.items() if each.stored == UNCOUNTED}

    def of(self, lead: uuid.UUID) -> Profile:
        """A lead's profile; the empty one of a lead that is new."""
        return self._known.setdefault(lead, Profile())

    def leave(self, lead: uuid.UUID, stored: Any) -> None:
        """Takes an event, by its row, out of a lead's profile."""
        if lead not in self.lost:
            event = _event(stored)
            if not (event and take_out(self.of(lead), event)):
                self.lost.add(lead)

    def pass_on(self, old: uuid.UUID, new: uuid.UUID, stored: Any) -> None:
        """Takes an event, by its row, out of one lead's profile into another's."""
        self.leave(old, stored)
        if new not in self.lost:
            if event := _event(stored):
                add(self.of(new), event, self._declared)
            else:
                self.lost.add(new)


def _event(stored: Any) -> Event | None:
    """A stored event; None where it cannot be read."""
    try:
        data = decode_interaction(stored.body)
    except msgspec.MsgspecError:
        return None
    return Event(stored.occurred_at, stored.uid.hex, data, to_us(stored.received_at))
