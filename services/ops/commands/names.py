"""What `mail check` asks of DNS: a name server, the system's, or a zone file."""

from pathlib import Path
from typing import Protocol, Self

import dns.exception
import dns.name
import dns.rdataset
import dns.resolver
import dns.zone

from services.shared.errors import Reject

LIFETIME_S = 5.0
LONGEST_CHAIN = 8  # of aliases
SETTING = "RIPELINE_RESOLVER"


class Unanswered(Exception):
    """DNS gave no answer: nobody knows what is there."""


class Names(Protocol):
    """Answers questions for records."""

    def ask(self, name: str, type_: str) -> list[str]:
        """The records as texts, strings of TXT joined; [] where there are none. Raises
        Unanswered.
        """


class NameServer:
    """Asks a name server, remembering what it said."""

    def __init__(self, resolver: dns.resolver.Resolver) -> None:
        self._resolver = resolver
        self._known: dict[tuple[str, str], list[str]] = {}

    @classmethod
    def at(cls, host: str, port: int) -> Self:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [host], port
        return cls(resolver)

    def ask(self, name: str, type_: str) -> list[str]:
        key = name.rstrip(".").lower(), type_
        if key not in self._known:
            self._known[key] = self._asked(name, type_)
        return self._known[key]

    def _asked(self, name: str, type_: str) -> list[str]:
        try:
            found = self._resolver.resolve(f"{name.rstrip('.')}.", type_, lifetime=LIFETIME_S)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            if isinstance(
                error, dns.name.LabelTooLong | dns.name.EmptyLabel | dns.name.NameTooLong
            ):
                return []
            raise Unanswered(f"no answer for {name} {type_}: {type(error).__name__}") from error
        return [_text(record) for record in found]


class ZoneFile:
    """Answers from a zone file (RFC 1035)."""

    def __init__(self, path: Path) -> None:
        try:
            self._zone = dns.zone.from_file(
                str(path), origin=dns.name.root, relativize=False, check_origin=False
            )
        except (dns.exception.DNSException, OSError, ValueError) as error:
            remedy = "write host:port of a name server, or a file in the form of RFC 1035"
            raise Reject(f"no zone file: {error}", where=SETTING, remedy=remedy) from error

    def ask(self, name: str, type_: str) -> list[str]:
        try:
            found = self._find(dns.name.from_text(name), type_)
        except dns.exception.DNSException:
            return []
        return [_text(record) for record in found or ()]

    def _find(self, name: dns.name.Name, type_: str) -> dns.rdataset.Rdataset | None:
        for _ in range(LONGEST_CHAIN):
            if found := self._zone.get_rdataset(name, type_):
                return found
            alias = self._zone.get_rdataset(name, "CNAME")
            if not alias:
                return None
            name = alias[0].target
        return None


def names_of(resolver: str) -> Names:
    """Who answers by the setting. Raises Reject."""
    if not resolver:
        return NameServer(dns.resolver.Resolver())
    host, _, port = resolver.rpartition(":")
    if host and port.isdecimal() and int(port) < 65536:
        return NameServer.at(host.strip("[]"), int(port))
    return ZoneFile(Path(resolver))


def _text(record: object) -> str:
    strings = getattr(record, "strings", None)
    return b"".join(strings).decode("utf-8", "replace") if strings is not None else str(record)
