"""Signed webhooks (Standard Webhooks): the touch's id is the message id, by which the receiver
recognises a repetition.
"""

import msgspec

from services.nurture.channels import ServerUnusable
from services.nurture.channels.message import Message
from services.shared.clock import rfc3339
from services.shared.contracts.events import Touch
from services.shared.errors import Reject, Retry
from services.shared.http.webhook import SignedWebhook
from services.shared.settings import Settings


class Webhook:
    """Posts to the one address of the settings."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.webhook_secret.get_secret_value()
        self._webhook = SignedWebhook(
            settings, settings.webhook_url, secret, "RIPELINE_WEBHOOK_URL"
        )

    async def send(self, message: Message, touch: Touch) -> None:
        """Returns on a 2xx. Raises Reject on a 3xx, or a 4xx but 408 and 429, Retry on another
        answer, ServerUnusable where there is none.
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
        if 300 <= status < 500 and status not in (408, 429):
            raise Reject(f"the webhook answered {status}")
        if status >= 300:
            raise Retry(f"the webhook answered {status}")
