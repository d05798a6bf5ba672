"""Signed webhooks (Standard Webhooks): the touch's id is the message id, by which the receiver
recognises a repetition.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from services.nurture.channels import ServerUnusable
from services.nurture.channels.message import Message
from services.shared.clock import rfc3339
from services.shared.contracts.events import Touch
from services.shared.errors import Reject, Retry
from services.shared.http.webhook import SignedWebhook
from services.shared.settings import Settings

FAILURES, FAILING_FOR = 5, timedelta(minutes=1)  # in a row, for so long: the endpoint is dead
GONE = 410
TRY_AGAIN = frozenset({408, 429})
AGAIN_BY_HAND = "`ripeline channel resume webhook` once it is mended"


class Webhook:
    """Posts to the one address of the settings, and says when its endpoint is dead: gone, or
    answering with failures for a while. Such a row of failures is counted since the process began.
    """

    def __init__(self, settings: Settings) -> None:
        secret = settings.webhook_secret.get_secret_value()
        self._webhook = SignedWebhook(
            settings, settings.webhook_url, secret, "RIPELINE_WEBHOOK_URL"
        )
        self._failures, self._failing_since = 0, datetime.min.replace(tzinfo=UTC)

    async def send(self, message: Message, touch: Touch, now: datetime) -> None:
        """Returns on a 2xx. Raises Reject on a 3xx, or a 4xx but 408, 410 and 429, Retry on another
        answer, ServerUnusable where there is none or the endpoint is dead.
        """
        assert touch.decided_at
        data = {
            "touch": touch.id,
            "lead": touch.lead,
            "program": touch.program,
            "content": touch.content,
            "recipient": message.recipient,
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "link": message.link,
            "unsubscribe": message.unsubscribe,
            "preferences": message.preferences,
        }
        body = msgspec.json.encode(
            {"type": "touch.due", "timestamp": rfc3339(touch.decided_at), "data": data}
        )
        try:
            status = await self._webhook.post(touch.id, body)
        except (Reject, Retry) as error:
            raise ServerUnusable(str(error)) from error
        if status >= 500 or status in TRY_AGAIN:
            raise self._failed(status, now)
        self._failures = 0
        if status == GONE:
            raise ServerUnusable(f"the webhook answered 410, it is gone: {AGAIN_BY_HAND}")
        if status >= 300:
            raise Reject(f"the webhook answered {status}")

    def _failed(self, status: int, now: datetime) -> Exception:
        """What a failure of the endpoint means, alone or after others."""
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if self._failures < FAILURES or now - self._failing_since < FAILING_FOR:
            return Retry(f"the webhook answered {status}")
        return ServerUnusable(
            f"the webhook has failed {self._failures} times in a row, at last with {status}: "
            f"{AGAIN_BY_HAND}"
        )
