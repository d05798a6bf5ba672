"""One table of bounces for reports by mail and the webhooks of mail tools."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.ingest.mailbox.inbound import read
from services.ingest.sources import mailgun, postmark, sendgrid
from services.ingest.sources.bounces import kind_of
from services.ingest.sources.contract import Item, Parsed
from services.shared.contracts.consent import consents_of
from tests.support.mailtools import encoded, items, post

MAILS = Path(__file__).parents[2] / "data" / "mail"
NOW = datetime(2026, 11, 3, 14, tzinfo=UTC)
REPORTS = {
    "bounce_postfix": "hard", "bounce_qmail": "hard", "bounce_gmail": "hard", "bounce_exchange_online": "hard",
    "bounce_general_status": "hard", "bounce_yahoo": "hard", "bounce_exim_plain": "hard", "bounce_german_text": "hard",
    "bounce_exchange_full": "soft", "bounce_full_general": "soft", "bounce_blocked": "soft", "bounce_sender_refused": "soft",
    "delayed_sendmail": "soft",
}  # fmt: skip
SERVERS = [  # (status, what the server said, kind), as servers write them
    ("5.1.1", "550 5.1.1 <x@y.example>: Recipient address rejected: User unknown in virtual mailbox table", "hard"),
    ("5.1.0", "550 5.1.0 <x@y.example>: address unknown", "hard"),
    ("5.1.2", "Host unknown (Name server: y.example: host not found)", "hard"),
    ("5.1.10", "RESOLVER.ADR.RecipientNotFound", "hard"),
    ("5.2.1", "The email account that you tried to reach is disabled.", "hard"),
    ("5.4.1", "Recipient address rejected: Access denied", "hard"),
    ("5.5.0", "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)", "hard"),
    ("5.0.0", "550 No such user here", "hard"),
    ("5.0.0", "550 Unrouteable address", "hard"),
    ("5.0.0", "550 5.1.1 user unknown", "hard"),
    ("5.0.0", "554 delivery error: dd This user doesn't have a y.example account", "hard"),
    ("5.0.0", "550 sorry, no mailbox here by that name (#5.1.1)", "hard"),
    ("5.3.0", "553 User unknown", "hard"),
    ("", "550 unknown user", "hard"),
    ("", "Destinataire inconnu", "hard"),
    ("", "550 пользователь не найден", "hard"),
    ("", "550 收件人不存在", "hard"),
    ("5.2.2", "552 5.2.2 user is over quota", "soft"),
    ("5.2.2", "mailbox unavailable", "soft"),
    ("5.0.0", "552 mailbox full; no such user could be added", "soft"),
    ("5.0.0", "Quota exceeded (mailbox for user is full)", "soft"),
    ("5.7.1", "550 5.7.1 Message rejected due to local policy: no such user", "soft"),
    ("5.7.606", "Access denied, banned sending IP", "soft"),
    ("5.1.8", "Sender address rejected: Domain not found", "soft"),
    ("5.0.0", "553 sender domain does not exist", "soft"),
    ("5.3.4", "Message size exceeds fixed limit", "soft"),
    ("4.2.2", "The recipient's inbox is out of storage space", "soft"),
    ("4.4.7", "user unknown", "soft"),
    ("5.0.0", "554 rejected", ""),
    ("", "", ""),
]  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_by_mail_says_whether_somebody_is_there(name: str) -> None:
    """I10, N6: by its status, else by its words wherever they stand."""
    [item] = read((MAILS / f"{name}.eml").read_bytes(), NOW)
    assert isinstance(item, Item)
    assert (item.type, item.properties["type"]) == ("email_bounced", REPORTS[name])
    assert bool(consents_of(item)) is (REPORTS[name] == "hard")


@pytest.mark.parametrize(("status", "said", "kind"), SERVERS)
def test_what_servers_say_means_the_same_at_every_door(status: str, said: str, kind: str) -> None:
    """N6: what decides nothing is what the tool's own word says."""
    assert kind_of(status, said) == kind
    found = {by_mailgun(status, said), by_sendgrid(status, said), by_postmark(status, said)}
    assert found == ({kind} if kind else {"hard"})


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        ("generic", "554 rejected", "soft"), ("generic", "550 5.1.1 no such user", "hard"),
        ("old", "Too old", "soft"), ("bounce", "554 rejected", "hard"), ("suppress-bounce", "", "hard"),
        ("espblock", "550 no such user", "soft"),
    ],
)  # fmt: skip
def test_mailguns_own_words(reason: str, message: str, kind: str) -> None:
    """N6: `generic` and `old` say nothing of the address."""
    assert by_mailgun("", message, reason=reason) == kind


def by_mailgun(status: str, said: str, reason: str = "bounce") -> str:
    event = {
        "event": "failed", "severity": "permanent", "reason": reason, "id": "1",
        "timestamp": 1793534406.3, "recipient": "cleo@example.com",
        "delivery-status": {"message": said, "enhanced-code": status},
    }  # fmt: skip
    body = {"signature": {"timestamp": "1", "token": "t", "signature": "s"}, "event-data": event}
    return _kind(mailgun.parse(post(mailgun.SOURCE, encoded(body))))


def by_sendgrid(status: str, said: str) -> str:
    event = {
        "event": "bounce", "type": "bounce", "email": "cleo@example.com", "timestamp": 1793534406,
        "sg_event_id": "1", "reason": said, "status": status,
    }  # fmt: skip
    return _kind(sendgrid.parse(post(sendgrid.SOURCE, encoded([event]))))


def by_postmark(status: str, said: str) -> str:
    record: dict[str, Any] = {
        "RecordType": "Bounce", "ID": 1, "Type": "HardBounce", "Email": "cleo@example.com",
        "BouncedAt": "2026-11-01T13:00:00Z", "Inactive": True, "Details": f"smtp;{status} {said}",
    }  # fmt: skip
    return _kind(postmark.parse(post(postmark.SOURCE, json.dumps(record).encode())))


def _kind(found: list[Parsed] | Any) -> str:
    [item] = items(found)
    assert item.type == "email_bounced"
    return str(item.properties["type"])
