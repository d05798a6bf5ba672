"""The snapshot of a lead that its events carry, so that nurture never reads the scorer's tables."""

from collections.abc import Sequence

from services.scorer.model.profile import Profile
from services.scorer.model.state import View
from services.scorer.records import LeadRow, State
from services.shared.clock import from_us
from services.shared.contracts.consent import snapshot_key
from services.shared.contracts.events import TOUCH_SYSTEM, ConsentState, Snapshot, keyed_hash
from services.shared.contracts.identity import Identifier, Kind

# who has more is no person that we know: no refusal could be traced to it, so it has no address
MAX_IDENTIFIERS = 1_000


def snapshot_of(lead: LeadRow, state: State, view: View, pepper: bytes) -> Snapshot:
    """What nurture needs to know of the lead; an address that belongs to several people is nobody's
    to write to.
    """
    profile = lead.profile
    identifiers = [name for name in lead.identifiers if name.system != TOUCH_SYSTEM]
    is_person = len(identifiers) <= MAX_IDENTIFIERS
    address = _address(profile, identifiers) if is_person else ""
    return Snapshot(
        stage=view.stage,
        belief=view.belief,
        likelihood=view.likelihood,
        fit=view.fit,
        qualified=state.qualified,
        product=state.fold.product,
        email=address,
        user_id=next((name.value for name in lead.identifiers if name.kind is Kind.USER), ""),
        traits=profile.known_traits(),
        sales_status=state.sales.status if state.sales else "",
        consents=_consents(profile, address),
        identifiers=tuple(keyed_hash(pepper, name.name) for name in identifiers[:MAX_IDENTIFIERS]),
        last_act_at=from_us(profile.act_at) if profile.act_at > 0 else None,
        excluded=lead.excluded,
    )


def _address(profile: Profile, identifiers: Sequence[Identifier]) -> str:
    """The address last used where it is the lead's own, else another one of its own."""
    own = [name.value for name in identifiers if name.kind in (Kind.EMAIL, Kind.ROLE)]
    return profile.email if profile.email in own else next(iter(own), "")


def _consents(profile: Profile, address: str) -> dict[str, ConsentState]:
    """The consents that count for an address, by channel and purpose."""
    wanted = {key._replace(address=address) for key in (*profile.consent, *profile.refusals)}
    return {
        snapshot_key(key.channel, key.purpose): consent
        for key in sorted(wanted)
        if (consent := profile.consent_for(key))
    }
