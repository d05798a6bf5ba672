"""Whether mails of this set-up can be expected to arrive and to be lawful: what is wrong in DNS,
settings and playbook, where, and how to mend it.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from services.ops.commands.names import Names, Unanswered
from services.ops.commands.spf import read_spf
from services.shared.dkim_signing import Signer
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from services.shared.urls import read_sender

INNER = [  # where no receiver reaches anything
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                 "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10")
]  # fmt: skip
ADVISED = "v=spf1 … -all"


class Finding(NamedTuple):
    """One thing examined: `ok`, or what is wrong and how to mend it."""

    check: str
    level: Literal["ok", "warning", "error"]
    what: str
    where: str
    remedy: str = ""


def mail_check(settings: Settings, playbook: Playbook, names: Names) -> list[Finding]:
    """Every finding. Questions that DNS does not answer are findings too."""
    found: list[Finding] = []
    sender = read_sender(settings.mail_from).domain.rstrip(".").lower()
    for check, examined in (
        ("sender", _sender(sender)),
        ("spf", _spf(names, sender, settings)),
        ("dkim", _dkim(names, sender, settings)),
        ("dmarc", _dmarc(names, sender, settings)),
        ("return_path", _return_path(names, sender, settings)),
        ("postal_address", _postal_address(playbook)),
        ("unsubscribe", _unsubscribe(names, settings)),
        ("links", _links(names, playbook)),
    ):
        try:
            found += [each._replace(check=check) for each in examined]
        except Unanswered as error:
            remedy = "Ask again, or name another server in RIPELINE_RESOLVER"
            found.append(Finding(check, "error", str(error), "DNS", remedy))
    return found


def _ok(what: str, where: str) -> Finding:
    return Finding("", "ok", what, where)


def _error(what: str, where: str, remedy: str) -> Finding:
    return Finding("", "error", what, where, remedy)


def _warning(what: str, where: str, remedy: str) -> Finding:
    return Finding("", "warning", what, where, remedy)


def _sender(domain: str) -> Iterable[Finding]:
    if "." not in domain:
        remedy = "Set RIPELINE_MAIL_FROM to an address of a domain of yours"
        yield _error(f"{domain} is no domain of the public DNS", "RIPELINE_MAIL_FROM", remedy)
    else:
        yield _ok(f"mails come from {domain}", "RIPELINE_MAIL_FROM")


def _spf(names: Names, domain: str, settings: Settings) -> Iterable[Finding]:
    host = urlsplit(settings.smtp_url.get_secret_value()).hostname or ""
    addresses = _addresses(names, host)
    spf = read_spf(names, domain, addresses)
    where = f"{domain} TXT"
    if not spf.policies:
        yield _error("no SPF record", where, f"Publish `{ADVISED}` with your provider's include")
    elif spf.problem:
        yield _error(spf.problem, where, "Leave one record, with at most 10 look-ups")
    elif spf.ending == "pass":
        yield _error("its SPF record permits everybody", where, "End it with -all")
    else:
        yield _ok(spf.policies[0], where)
        if spf.ending in ("", "neutral"):
            yield _warning("its SPF record forbids nobody", where, "End it with ~all or -all")
        if addresses and not spf.permits:
            what = f"its SPF record does not name the mail server {host}"
            remedy = "Add the addresses from which that server sends, if these are its own"
            yield _warning(what, where, remedy)


def _addresses(names: Names, host: str) -> frozenset[str]:
    """A host's addresses that receivers may see."""
    try:
        return frozenset({host}) if _is_outer(host) else frozenset()
    except ValueError:
        found = (*names.ask(host, "A"), *names.ask(host, "AAAA"))
        return frozenset(each for each in found if _is_outer(each))


def _is_outer(address: str) -> bool:
    """Whether others can reach an IP address. Raises ValueError for what is none."""
    ip = ipaddress.ip_address(address)
    return not any(ip in network for network in INNER)


def _dkim(names: Names, sender: str, settings: Settings) -> Iterable[Finding]:
    signer = Signer.of(settings)
    if signer is None:
        remedy = (
            "Set RIPELINE_DKIM_DOMAIN, RIPELINE_DKIM_SELECTOR and RIPELINE_DKIM_KEY_FILE, unless "
            "the mail server signs by itself"
        )
        yield _warning("Ripeline signs no mail", "RIPELINE_DKIM_KEY_FILE", remedy)
        return
    name = f"{signer.selector}._domainkey.{signer.domain}"
    where, remedy = f"{name} TXT", f"Publish `{signer.record()}`"
    records = [tags(text) for text in names.ask(name, "TXT")]
    keys = [each["p"].replace(" ", "") for each in records if "p" in each]
    if len(keys) != 1:
        yield _error(f"{len(keys) or 'no'} DKIM keys", where, remedy)
    elif not keys[0]:
        yield _error("the DKIM key is revoked: p is empty", where, remedy)
    elif keys[0] != tags(signer.record())["p"]:
        yield _error("another DKIM key than that of RIPELINE_DKIM_KEY_FILE", where, remedy)
    else:
        yield _ok("the key that we sign with", where)


def _dmarc(names: Names, sender: str, settings: Settings) -> Iterable[Finding]:
    at, policy = _policy(names, sender)
    where = f"_dmarc.{sender} TXT"
    if not policy:
        remedy = "Publish `v=DMARC1; p=none; rua=mailto:…` first, later p=quarantine"
        yield _error("no DMARC record", where, remedy)
        return
    where = f"_dmarc.{at} TXT"
    if policy.get("p", "").lower() not in ("none", "quarantine", "reject"):
        yield _error("a DMARC record without a policy", where, "Add p=none, quarantine or reject")
        return
    yield _ok(f"p={policy['p']}", where)
    if settings.dkim_domain and not _aligned(settings.dkim_domain, sender, at, policy.get("adkim")):
        what = f"signatures of {settings.dkim_domain} do not align with the sender {sender}"
        yield _error(what, "RIPELINE_DKIM_DOMAIN", f"Sign for {sender}")
    elif not settings.dkim_domain:
        what = "DMARC holds by SPF alone, which breaks when a mail is forwarded"
        yield _warning(what, "RIPELINE_DKIM_DOMAIN", "Sign with DKIM too")


def _policy(names: Names, sender: str) -> tuple[str, Mapping[str, str]]:
    """(domain, tags) of the DMARC record of the sender's domain or the nearest above it."""
    labels = sender.split(".")
    for start in range(max(1, len(labels) - 1)):
        domain = ".".join(labels[start:])
        found = [tags(text) for text in names.ask(f"_dmarc.{domain}", "TXT")]
        policies = [each for each in found if each.get("v") == "DMARC1"]
        if len(policies) == 1:
            return domain, policies[0]
    return sender, {}


def _aligned(signing: str, sender: str, organisation: str, mode: str | None) -> bool:
    """RFC 7489, 3.1.1: the same domain, or where relaxed the same organisation's."""
    signing = signing.lower().rstrip(".")
    if mode == "s" or signing == sender:
        return signing == sender
    both = (f".{signing}", f".{sender}")
    own = all(each.endswith(f".{organisation}") for each in both)
    return own or both[0].endswith(both[1]) or both[1].endswith(both[0])


def _return_path(names: Names, domain: str, settings: Settings) -> Iterable[Finding]:
    servers = names.ask(domain, "MX")
    where = f"{domain} MX"
    if servers and servers[0].split()[-1] != ".":
        yield _ok(servers[0].split()[-1].rstrip("."), where)
    else:
        remedy = "Publish an MX record, for bounces and answers come to RIPELINE_MAIL_FROM"
        yield _error("no mail server takes mail for it", where, remedy)
    if not settings.imap_url.get_secret_value():
        remedy = "Set RIPELINE_IMAP_URL, or have inbound mail posted to /v1/inbound"
        yield _warning("no mailbox is read for bounces", "RIPELINE_IMAP_URL", remedy)


def _postal_address(playbook: Playbook) -> Iterable[Finding]:
    address = playbook.company.postal_address.strip()
    if not address:
        remedy = "Write it there: the law asks for it in every mail"
        yield _error("no postal address", "playbook.yaml company.postal_address", remedy)
    elif not any(letter.isdigit() for letter in address):
        remedy = "Write street, number, postcode and town"
        yield _warning(f"{address!r} holds no number", "playbook.yaml company", remedy)
    else:
        yield _ok(address, "playbook.yaml company.postal_address")


def _unsubscribe(names: Names, settings: Settings) -> Iterable[Finding]:
    where, parts = "RIPELINE_PUBLIC_URL", urlsplit(settings.public_url)
    host = parts.hostname or ""
    if parts.scheme != "https":
        what = f"one-click unsubscribing needs https, and {settings.public_url} is none"
        yield _error(what, where, "Put a server with a certificate before ingest (RFC 8058)")
    elif not _addresses(names, host):
        yield _error(f"{host} leads to no public address", where, "Publish its A or AAAA record")
    else:
        yield _ok(f"{settings.public_url}/u/…", where)


def _links(names: Names, playbook: Playbook) -> Iterable[Finding]:
    hosts: dict[str, list[str]] = {}
    wrong = False
    for item in playbook.content:
        parts = urlsplit(item.url)
        if parts.scheme in ("http", "https") and parts.hostname:
            hosts.setdefault(parts.hostname, []).append(item.id)
        else:
            wrong, where = True, f"content.yaml {item.id} url"
            yield _error(f"{item.url} is no link", where, "Write the page's whole address")
    for host, items in hosts.items():
        if not (names.ask(host, "A") or names.ask(host, "AAAA")):
            wrong, where = True, f"content.yaml url of {', '.join(items)}"
            yield _error(f"{host} has no address", where, "Mend the links, or publish the host")
    if not wrong:
        yield _ok(f"{len(playbook.content)} links to {len(hosts)} hosts", "content.yaml url")


def tags(record: str) -> dict[str, str]:
    """The tags of a DKIM or DMARC record by name."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): value.strip() for name, mark, value in pairs if mark}
