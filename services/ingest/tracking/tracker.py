"""Records what people do with our mails: clicks, opens, unsubscribing, preferences."""

import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request

from services.ingest.consents import Named, consent_records
from services.ingest.http.admission import Admission
from services.ingest.http.dependencies import Dependencies
from services.ingest.normalise import Receipt
from services.ingest.sources.contract import Item
from services.ingest.tracking import bots, preferences
from services.shared.contracts.consent import DOUBLE_OPT_IN
from services.shared.contracts.events import Consent
from services.shared.contracts.link_tokens import (
    Claim,
    LinkClaim,
    PixelClaim,
    PreferencesClaim,
    UnsubscribeClaim,
    open_token,
    sign,
)
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook
from services.shared.telemetry import ACCEPTED, REFUSED

SOURCE = "links:ripeline"  # of the events of our mails, part of their identity
METRIC_LABEL = "links"
LINK, HIDDEN_LINK, UNSUBSCRIBE, PREFERENCES = "link", "hidden link", "unsubscribe", "preferences"
C = TypeVar("C", bound=Claim)


class MailTokens(NamedTuple):
    """A person's tokens for the pages of our mails."""

    unsubscribe: str
    preferences: str


class EngagementTracker:
    """Records engagement with mails; recent clicks give scanners away by what they follow."""

    def __init__(self, parts: Dependencies, admission: Admission) -> None:
        self._playbook, self._pepper, self.clock = parts.playbook, parts.pepper, parts.clock
        self._normaliser, self._delivery = parts.normaliser, parts.delivery
        self._measuring = parts.measuring
        self._admission = admission
        self._visitors = parts.visitors
        self._recent_clicks = bots.RecentClicks()
        self.topics = preferences.topics_of(parts.playbook)

    def claim(self, token: str, kind: type[C]) -> C:
        """What a token stands for. Raises Reject `not-found` for one that is not ours, or of
        another kind.
        """
        claim = open_token(self._pepper, token)
        if not isinstance(claim, kind):
            remedy = "use the link as it stood in the mail"
            raise Reject(
                "this link is for something else", where="token", remedy=remedy, kind="not-found"
            )
        return claim

    def tokens(self, claim: UnsubscribeClaim | PreferencesClaim) -> MailTokens:
        """The tokens of the person of this claim."""
        return MailTokens(
            sign(self._pepper, UnsubscribeClaim(claim.touch_id, claim.address)),
            sign(self._pepper, PreferencesClaim(claim.touch_id, claim.address)),
        )

    async def record_click(self, claim: LinkClaim, request: Request) -> str:
        """Records a click, by a person or a machine; returns the URL it leads to, whether or not
        the record could be stored.
        """
        url = target(self._playbook, claim)
        link = HIDDEN_LINK if claim.trap else LINK
        others = self._recent_clicks.others(claim.touch_id, link, time.monotonic())
        machine = (
            claim.trap
            or bool(others)
            or bots.is_machine_click(request.method, request.headers)
            or self._is_known(request)
        )
        click = Item(
            type="email_clicked",
            touch_id=claim.touch_id,
            content_id=claim.content_id,
            url=url,
            machine=machine,
        )
        await self._try_store(click, request)
        return url

    async def record_page_view(
        self, claim: UnsubscribeClaim | PreferencesClaim, request: Request
    ) -> None:
        """A page was asked for: no act, but where the mail's link was followed a moment ago, a
        scanner is following them all.
        """
        page = UNSUBSCRIBE if isinstance(claim, UnsubscribeClaim) else PREFERENCES
        if LINK in self._recent_clicks.others(claim.touch_id, page, time.monotonic()):
            click = Item(type="email_clicked", touch_id=claim.touch_id, machine=True)
            await self._try_store(click, request)

    async def record_open(self, token: str, request: Request) -> None:
        """Records an open, where the playbook has the pixel on; a token that is not ours is
        ignored.
        """
        if not self._playbook.open_pixel:
            return
        try:
            claim = self.claim(token, PixelClaim)
        except Reject:
            return
        machine = bots.is_machine_open(request.method, request.headers) or self._is_known(request)
        await self._try_store(
            Item(type="email_opened", touch_id=claim.touch_id, machine=machine), request
        )

    def _is_known(self, request: Request) -> bool:
        """Whether a crawler or an assistant's live fetch asks."""
        address = request.client.host if request.client else ""
        return self._visitors.is_machine(request.headers.get("user-agent", ""), address)

    async def unsubscribe(self, claim: UnsubscribeClaim, request: Request) -> None:
        """Withdraws consent. Raises Reject `spool-full`, `spool-share`, `too-many`."""
        consent = Consent(state="withdrawn", basis="unsubscribe link")
        item = Item(type="unsubscribed", touch_id=claim.touch_id, consent=(consent,))
        await self._store([item], request, claim.address)

    async def resubscribe(self, claim: PreferencesClaim, request: Request) -> None:
        """Gives consent again. The link came in a mail to that address, which is what a double
        opt-in confirms. Raises Reject as `unsubscribe` does.
        """
        consent = Consent(state="given", basis=DOUBLE_OPT_IN, text="Write to me again")
        item = Item(type="consent_given", touch_id=claim.touch_id, consent=(consent,))
        await self._store([item], request, claim.address)

    async def save_measuring(
        self, claim: PreferencesClaim, consent: Consent, request: Request
    ) -> None:
        """Stores whether clicks and opens may be measured. Raises Reject as `unsubscribe` does."""
        item = Item(type="preference_set", touch_id=claim.touch_id, consent=(consent,))
        await self._store([item], request, claim.address)

    async def save_preferences(
        self, claim: PreferencesClaim, chosen: preferences.Chosen, request: Request
    ) -> None:
        """Stores preferences. Raises Reject as `unsubscribe` does."""
        await self._store(preferences.interactions(claim.touch_id, chosen), request)

    async def _try_store(self, item: Item, request: Request) -> None:
        """Stores what nobody shall fail for; nothing of who has refused that since the mail went
        out.
        """
        try:
            await self._store([item], request, measured=True)
        except Reject as reject:
            REFUSED.labels(METRIC_LABEL, reject.kind).inc()

    async def _store(
        self,
        items: Sequence[Item],
        request: Request,
        address: str = "",
        *,
        measured: bool = False,
    ) -> None:
        """Stores items, their consents also for the address of this keyed hash; of what is
        `measured`, nothing of a recipient who refuses that.
        """
        owner = self._admission.admit_without_key(request, SOURCE)
        if measured and await self._measuring.is_refused(items[0].touch_id):
            return
        receipt = Receipt(SOURCE, self.clock.now(), time.time())
        consents = [consent for item in items for consent in item.consent]
        self._normaliser.take(items, receipt)
        records = receipt.records + consent_records(
            consents, uuid.uuid4().hex, Named(address), None, receipt.received_at
        )
        await self._delivery.publish_or_spool(records, owner)
        ACCEPTED.labels(METRIC_LABEL).inc(len(receipt.ids))


def target(playbook: Playbook, claim: LinkClaim) -> str:
    """The URL that a link leads to: one of its content's own; where the content is gone, the
    company's website.

    The URL in tokens of earlier releases counts only where the playbook names it.
    """
    content = playbook.content_by_id.get(claim.content_id)
    if content is None:
        return playbook.company.website
    # a pattern such as */guide is no URL
    is_plain = urlsplit(claim.url).scheme in ("http", "https")
    return claim.url if is_plain and claim.url in content.urls else content.url
