"""Which consents count for leads: of what came under any of their identifiers, and of what the
scorer knew.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.store.consents import Asked, ConsentStore
from services.nurture.store.snapshots import KnownSnapshot, LeadKey
from services.shared.contracts.consent import prevailing, snapshot_key
from services.shared.contracts.events import ConsentState


async def consents_of(
    connection: AsyncConnection,
    snapshots: Mapping[LeadKey, KnownSnapshot],
    addresses: Mapping[LeadKey, str],
    related: Mapping[str, set[str]],
    everybody: Mapping[LeadKey, KnownSnapshot],
    asked: Sequence[Asked],
) -> dict[Asked, dict[LeadKey, ConsentState]]:
    """What counts, for each permission that is asked for, of what `lead.consents` brought under any
    of the leads' identifiers, and of what the scorer knew; and of the refusals under those that the
    leads had, and that others of their addresses have or had. `related` are these others, by lead,
    `everybody` the snapshots of all.
    """
    own: dict[str, set[str]] = defaultdict(set)  # by lead
    for key, snapshot in snapshots.items():
        own[key.lead] |= {addresses[key], *snapshot.identifiers} - {""}
    known_names: dict[str, set[str]] = defaultdict(set)
    for key, snapshot in everybody.items():
        known_names[key.lead] |= snapshot.names
    names = {
        lead: mine.union(*(known_names[other] for other in related[lead]))
        for lead, mine in own.items()
    }
    kept: dict[tuple[Asked, str], list[ConsentState]] = defaultdict(list)
    every = set().union(*names.values())
    for identifier, permission, consent in await ConsentStore(connection).under(every, asked):
        kept[permission, identifier].append(consent)
    found: dict[Asked, dict[LeadKey, ConsentState]] = {permission: {} for permission in asked}
    for permission, (key, snapshot) in product(asked, snapshots.items()):
        known = [
            consent
            for identifier in names[key.lead]
            for consent in kept.get((permission, identifier), ())
            if consent.state == "withdrawn"
            or identifier == addresses[key]
            or (consent.general and identifier in own[key.lead])
        ]
        if of_scorer := snapshot.consents.get(snapshot_key(*permission)):
            known.append(of_scorer)
        if counts := prevailing(known):
            found[permission][key] = counts
    return found
