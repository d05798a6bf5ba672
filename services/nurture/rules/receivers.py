"""What a receiver of mail takes: who it is, how much a new sender may send it, and when complaints
or its answers stop it. Pure.
"""

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from services.nurture.rules.cadence import Over
from services.shared.contracts.touch_reasons import WaitReason
from services.shared.playbook.sections import Sending

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
COUNTED = timedelta(days=7)  # over which complaints and bounces are counted
WARNING, STOP = 0.001, 0.003  # complaints a mail
STOPS = 2  # complaints; a single one stops nobody, however few mails there were
# providers by the first word of a domain, and by whole domains
_WORDS = {
    "gmail": "google", "googlemail": "google", "outlook": "microsoft", "hotmail": "microsoft",
    "live": "microsoft", "msn": "microsoft", "yahoo": "yahoo", "ymail": "yahoo",
    "rocketmail": "yahoo", "aol": "yahoo", "icloud": "apple", "gmx": "gmx",
}  # fmt: skip
_DOMAINS = {"me.com": "apple", "mac.com": "apple", "web.de": "gmx"}
PROVIDERS = sorted({*_WORDS.values(), *_DOMAINS.values()})
_STATUS = re.compile(r"(?<![\d.])[45]\.(\d{1,3}\.\d{1,3})(?![\d.])")
AUTHENTICATE = (
    "publish SPF and DKIM for the sender's domain, and DMARC that aligns with one of them"
)
# by RFC 3463 status without its first digit: what a receiver has against the sender, not against
# the address, and the remedy (Gmail's, Outlook's and Yahoo's own codes among them)
ANSWERS = {
    "7.20": f"mails are not authenticated: {AUTHENTICATE}",
    "7.23": "the sending server's address may not send for the domain: put it into the SPF record",
    "7.24": "the SPF record names suspicious servers: take out what does not send for the domain",
    "7.25": "the sending server's address has no name: set a PTR record that leads back to it",
    "7.26": f"mails are not authenticated: {AUTHENTICATE}",
    "7.27": "SPF does not pass: put the sending server into the SPF record of the domain",
    "7.28": "too much mail, or too much unwanted mail: lower sending.per_hour and write to fewer",
    "7.29": "the connection is not encrypted: have the mail server use TLS",
    "7.30": "DKIM does not pass: sign mails with a key that the domain publishes",
    "7.32": "the From address aligns with neither SPF nor DKIM: sign with the From domain",
    "7.40": "the domain has no DMARC record: publish one, `v=DMARC1; p=none` at least",
    "7.509": f"the domain's own DMARC policy refuses these mails: {AUTHENTICATE}",
    "7.515": f"the domain does not meet what high-volume senders must: {AUTHENTICATE}",
    "7.511": "the sending server's address is banned: ask delist@microsoft.com to lift it",
    "7.606": "the sending server's address is banned: ask sender.office.com to lift it",
    "7.650": "too much mail from a sender without a reputation: lower sending.per_hour",
    "7.9": "the mail is refused by policy: check SPF, DKIM, DMARC and the links in its text",
}  # fmt: skip


class Answer(NamedTuple):
    """A receiver's status (`5.7.26`), and what it has against the sender with the remedy; '' where
    it is about the message or the address.
    """

    status: str
    remedy: str


class Counts(NamedTuple):
    """Mails to a receiver in `COUNTED`, how many people called one spam, and how many came back."""

    sent: int = 0
    complained: int = 0
    bounced: int = 0


class Verdict(NamedTuple):
    """What counts make of a receiver: `ok`, `warning` or `stopped`, and why."""

    state: str
    why: str = ""


class Hold(NamedTuple):
    """Until when a mail waits for its receiver or its sender, and for what."""

    over: Over
    reason: WaitReason


def receiver_of(address: str) -> str:
    """The provider of an address where it is one that many know, else its domain."""
    domain = address.rpartition("@")[2].lower().rstrip(".")
    return _DOMAINS.get(domain) or _WORDS.get(domain.partition(".")[0]) or domain


def answer_of(words: str) -> Answer:
    """What a server's words say."""
    found = _STATUS.search(words)
    if found is None:
        return Answer("", "")
    return Answer(found[0], ANSWERS.get(found[1], ""))


def verdict(counts: Counts) -> Verdict:
    """A warning at one complaint in a thousand mails, a stop at three, of two people at least."""
    share = counts.complained / counts.sent if counts.sent else 0.0
    if share < WARNING:
        return Verdict("ok")
    of = f"of {counts.sent} in seven days ({share:.2%})"
    why = f"{counts.complained} people called mails spam, {of}"
    if share >= STOP and counts.complained >= STOPS:
        return Verdict("stopped", f"{why}; a stop is at {STOP:.1%}, write to fewer who want more")
    return Verdict("warning", f"{why}; nothing more goes there from {STOP:.1%} on")


def day_limit(sending: Sending, since: datetime, now: datetime) -> int | None:
    """How many mails a sender may send today that began then; None where it is new no longer."""
    age = (now.date() - since.date()).days
    if age >= sending.ramp_days:
        return None
    return int(sending.first_day * sending.daily_growth**age)


def ramp_hold(sending: Sending, since: datetime, sent_today: int, now: datetime) -> Over | None:
    """A new sender's mails of a day, by UTC."""
    limit = day_limit(sending, since, now)
    if limit is None or sent_today < limit:
        return None
    tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    return Over(tomorrow, f"a new sender sends {limit} mails at most on this day")


def rate_hold(sending: Sending, receiver: str, hour: list[datetime], now: datetime) -> Over | None:
    """The mails of an hour to one receiver; `hour` are the times of those of the last one."""
    if len(hour) < sending.per_hour:
        return None
    over = max(sorted(hour)[len(hour) - sending.per_hour] + HOUR, now + timedelta(seconds=1))
    return Over(over, f"{receiver} gets {sending.per_hour} mails in an hour at most")
