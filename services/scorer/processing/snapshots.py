"""The snapshot of a lead that its events carry, so that nurture never reads the scorer's tables."""

from collections.abc import Sequence

from services.scorer.model.profile import Profile
from services.scorer.model.state import View
from services.scorer.records import LeadRow, State
from services.shared.clock import from_us
from services.shared.contracts.consent import snapshot_key
from services.shared.contracts.events import ConsentState, Snapshot
from services.shared.contracts.identity import Identifier, Kind


def snapshot_of(lead: LeadRow, state: State, view: View) -> Snapshot:
    """What nurture needs to know of the lead; an address that belongs to several people is nobody's
    to write to.
    """
    profile = lead.profile
    address = _address(profile, lead.identifiers)
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
        sales_status=profile.sales.status if profile.sales else "",
        consents=_consents(profile, address),
        last_act_at=from_us(profile.act_at) if profile.act_at > 0 else None,
        excluded=lead.excluded,
    )


def _address(profile: Profile, identifiers: Sequence[Identifier]) -> str:
    """The address last used where it is the lead's own, else another one of its own."""
    own = [name.value for name in identifiers if name.kind in (Kind.EMAIL, Kind.ROLE)]
    return profile.email if profile.email in own else next(iter(own), "")


def _consents(profile: Profile, address: str) -> dict[str, ConsentState]:
    """The consents that count for an address, by channel and purpose."""
    consents: dict[str, ConsentState] = {}
    for key in profile.consent:
        if record := profile.consent_for(key._replace(address=address)):
            consents[snapshot_key(key.channel, key.purpose)] = ConsentState(
                "withdrawn" if record.refused else "given", from_us(record.at), record.basis
            )
    return consents
