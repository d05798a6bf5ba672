"""Our mails carry their touch through the tools that send them."""

import json
from email import message_from_bytes, policy
from email.headerregistry import Address

from services.nurture.channels.email import compose
from services.nurture.channels.message import Message
from tests.support.mailtools import NOW, TOUCH


def test_a_mail_carries_its_touch_in_the_header_of_each_tool_unbroken() -> None:
    """I7: SendGrid's unique argument, Mailgun's variable and Postmark's metadata come back with
    every event.
    """
    message = Message(
        TOUCH,
        "ann@example.com",
        "Hello",
        "text",
        "<p>html</p>",
        "https://x.example",
        "https://x.example/u",
        "https://x.example/p",
    )
    raw = compose(message, Address("Ripeline", "team", "example.com"), NOW).as_bytes()
    mail = message_from_bytes(raw, policy=policy.default)
    assert json.loads(mail["X-SMTPAPI"]) == {"unique_args": {"touch_id": TOUCH}}
    assert json.loads(mail["X-Mailgun-Variables"]) == {"touch_id": TOUCH}
    assert (mail["X-PM-Metadata-touch_id"], mail["X-PM-KeepID"]) == (TOUCH, "true")
    assert mail["Message-ID"] == f"<{TOUCH}@example.com>"
    assert b"=?" not in raw
    assert max(map(len, raw.split(b"\n"))) <= 998
