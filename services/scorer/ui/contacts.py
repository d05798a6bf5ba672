"""What people wrote to us, and the addresses under which they are called or written to."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from services.scorer.model.search_words import EXTENSION, PHONE_TRAIT, number_of
from services.scorer.wording import short
from services.shared.contracts.events import Interaction

MAX_MESSAGE = 2_000  # characters
# traits and properties that hold what somebody wrote to us, and the acts with which they come
MESSAGE_FIELDS = (
    "message", "your_message", "enquiry", "inquiry", "question", "questions", "comment", "comments",
    "text", "body", "notes",
)  # fmt: skip
WITH_MESSAGE = frozenset(
    {"form_submitted", "enquired", "demo_requested", "trial_started", "webinar_registered",
     "email_replied", "not_now", "call_held", "meeting_held"}
)  # fmt: skip
DIGITS = frozenset("0123456789")
LONGEST_DIALLED = 20  # digits


def message_of(data: Interaction) -> str:
    """What somebody wrote with an act, of at most MAX_MESSAGE characters; '' where it is none that
    people write with.
    """
    if data.type not in WITH_MESSAGE:
        return ""
    found = (
        fields.get(name) for fields in (data.properties, data.traits) for name in MESSAGE_FIELDS
    )
    message = next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"


def phones_of(traits: Mapping[str, Any]) -> list[str]:
    """The phone numbers among traits, as they were written."""
    found = (short(value) for name, value in traits.items() if PHONE_TRAIT.search(name))
    return list(dict.fromkeys(text for text in found if dial_address(text)))


def dial_address(written: str) -> str:
    """The `tel:` address of a phone number; '' where it is none."""
    text = EXTENSION.split(written, maxsplit=1)[0].strip()
    plus = "+" if text.startswith("+") else ""
    digits = "".join(sign for sign in text.replace("(0)", "" if plus else "0") if sign in DIGITS)
    is_number = number_of(written) and 0 < len(digits) <= LONGEST_DIALLED
    return f"tel:{plus}{digits}" if is_number else ""


def mail_address(address: str) -> str:
    """The `mailto:` address of a mail address."""
    return f"mailto:{quote(address, safe='@+')}"
