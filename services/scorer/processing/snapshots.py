"""The snapshot of a lead that its events carry, so that nurture never reads the scorer's tables."""

from collections.abc import Sequence
from datetime import datetime

from services.scorer.model.profile import Profile
from services.scorer.model.state import View
from services.scorer.records import LeadRow, State
from services.shared.clock import from_us
from services.shared.contracts.consent import snapshot_key
from services.shared.contracts.event_types import ANSWERS, EventType
from services.shared.contracts.events import TOUCH_SYSTEM, ConsentState, Snapshot, keyed_hash
from services.shared.contracts.identity import Identifier, Kind

# who has more is no person that we know: no refusal could be traced to it, so it has no address
MAX_IDENTIFIERS = 1_000
SAME_MAIL_US = 3_600_000_000  # a mail arrives so long after it went


def snapshot_of(lead: LeadRow, state: State, view: View, pepper: bytes) -> Snapshot:
    """What nurture needs to know of the lead; an address that belongs to several people is nobody's
    to write to.
    """
    profile = lead.profile
    identifiers = [name for name in lead.identifiers if name.system != TOUCH_SYSTEM]
    address = address_of(profile, identifiers)
    return Snapshot(
        stage=view.stage,
        belief=view.belief,
        likelihood=view.likelihood,
        fit=view.fit,
        qualified=state.qualified,
        product=state.fold.product,
        email=address,
        user_id=user_id_of(lead),
        traits=profile.known_traits(),
        sales_status=state.sales.status if state.sales else "",
        sales_reason=state.sales.reason if state.sales else "",
        sales_at=from_us(state.sales.at) if state.sales else None,
        sales_until=state.sales.until if state.sales else "",
        consents=_consents(profile, address),
        identifiers=tuple(keyed_hash(pepper, name.name) for name in identifiers[:MAX_IDENTIFIERS]),
        last_act_at=from_us(profile.act_at) if profile.act_at > 0 else None,
        answered_at=_answered_at(profile),
        excluded=lead.excluded,
        mailed=_mailed(profile),
        handoff=lead.handoff,
    )


def _mailed(profile: Profile) -> tuple[datetime, ...]:
    """When other tools last sent mails; of one mail they may tell that it went and that it came."""
    arrived = [at for at, _ in profile.mailed.get(EventType.EMAIL_DELIVERED, ())]
    went = [
        at
        for at, _ in profile.mailed.get(EventType.EMAIL_SENT, ())
        if not any(0 <= later - at <= SAME_MAIL_US for later in arrived)
    ]
    return tuple(from_us(at) for at in sorted({*arrived, *went}) if at > 0)


def _answered_at(profile: Profile) -> datetime | None:
    last = last_answer(profile)
    return from_us(last) if last > 0 else None


def last_answer(profile: Profile) -> int:
    """When the lead last answered, or met somebody (µs); 0 where it never has."""
    answers = (last for type_, last in profile.milestones.items() if last and type_ in ANSWERS)
    return max((last[-1][0] for last in answers), default=0)


def user_id_of(lead: LeadRow) -> str:
    """The first of its user ids, '' where it has none."""
    return next((name.value for name in lead.identifiers if name.kind is Kind.USER), "")


def address_of(profile: Profile, identifiers: Sequence[Identifier]) -> str:
    """The address last used where it is the lead's own, else another one of its own; '' for what is
    no person. `identifiers` are the lead's without those of our touches.
    """
    if len(identifiers) > MAX_IDENTIFIERS:
        return ""
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
