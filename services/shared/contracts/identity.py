"""Which words identify somebody: cleaned identifiers of an interaction, strongest first."""

import re
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import idna

from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import TOUCH_SYSTEM, ExternalId, Interaction
from services.shared.playbook.sections import Identity


class Kind(IntEnum):
    """Strength of an identifier: the smaller, the stronger."""

    # identifiers are keys everywhere, and an enumeration's own hash is slow
    __hash__ = int.__hash__

    USER = 0
    EMAIL = 1
    EXTERNAL = 2
    ANONYMOUS = 3
    ROLE = 4


KINDS = tuple(Kind)  # by number


class Identifier(NamedTuple):
    """A cleaned identifier; an external id is one within its `system`."""

    kind: Kind
    value: str
    system: str = ""

    @property
    def text(self) -> str:
        """Its value as one text, unique within its kind; `from_text` reads it."""
        return (
            f"{self.system}{_SEPARATOR}{self.value}" if self.kind is Kind.EXTERNAL else self.value
        )

    @classmethod
    def from_text(cls, kind: Kind, text: str) -> "Identifier":
        """The identifier of this kind and text."""
        if kind is not Kind.EXTERNAL:
            return cls(kind, text)
        system, _, value = text.partition(_SEPARATOR)
        return cls(kind, value, system)

    @property
    def name(self) -> str:
        """`kind:text`, of which records and consents hold keyed hashes."""
        return f"{_WORDS[self.kind]}:{self.text}"

    @property
    def rank(self) -> tuple[Kind, str]:
        """Sorts the strongest first, and so does the database by kind and text."""
        return self.kind, self.text


MAX_DOMAIN = 253  # characters
_SEPARATOR = "\t"  # stands in no system's name
_WORDS = {
    Kind.USER: "user",
    Kind.EMAIL: "email",
    Kind.EXTERNAL: "external",
    Kind.ANONYMOUS: "anonymous",
    Kind.ROLE: "email",
}
OURS = "ripeline."  # systems under which nobody else may name a lead
ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
# what every mail program reads in the same way
ADDRESS = re.compile(rf"{ATOM}(\.{ATOM})*@[a-z0-9-]+(\.[a-z0-9-]+)+")
ENCODED = "=?"  # ... but for encoded words
# space of every kind, byte order marks, and what shows nothing or only the direction of writing
AROUND = (
    " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\xad\u061c\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005"
    "\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d"
    "\u202e\u202f\u205f\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u3000\ufeff"
)


class Cleaner:
    """Cleans identifiers under the playbook's lists of junk and role mailboxes."""

    def __init__(self, words: Identity) -> None:
        self._junk = {word.lower() for word in words.junk} | {""}
        self._roles = {word.lower() for word in words.role_mailboxes}
        self._free = {domain.lower() for domain in words.free_mail_domains}
        self.address = lru_cache(maxsize=4096)(self._address)  # asked several times of each event

    def plain(self, value: str) -> str:
        """The value without space or invisible marks around it; '' where it is junk."""
        value = value.strip(AROUND)
        return "" if value.lower() in self._junk else value

    def _address(self, email: str) -> str:
        """A mail address in lower case, its domain as in the DNS; '' where it is none."""
        email = email.strip(AROUND).lower()
        if not email.isascii():
            email = _with_ascii_domain(email)
        good = len(email) <= 254 and ADDRESS.fullmatch(email) and ENCODED not in email
        return "" if not good or email in self._junk else email

    def is_role(self, address: str) -> bool:
        """Whether the mailbox belongs to a role: info@, sales@."""
        return address.partition("@")[0].partition("+")[0] in self._roles

    def is_free_mail(self, domain: str) -> bool:
        """Whether anybody can have an address there."""
        return domain in self._free

    def identifiers(self, event: Interaction) -> list[Identifier]:
        """Usable identifiers, strongest first; a role address stands alone; empty where the event
        names nobody.
        """
        found: list[Identifier] = []
        if event.user_id and (user := self.plain(event.user_id)):
            found.append(Identifier(Kind.USER, user))
        if event.email and (email := self.address(event.email)):
            if not self.is_role(email):
                found.append(Identifier(Kind.EMAIL, email))
            elif not found:
                return [Identifier(Kind.ROLE, email)]
        if event.external_id and (external := _external(self, event.external_id)):
            found.append(external)
        if event.touch_id and (not found or event.type == TOUCH_SENT):
            found.append(Identifier(Kind.EXTERNAL, event.touch_id, TOUCH_SYSTEM))
        if event.anonymous_id and (anonymous := self.plain(event.anonymous_id)):
            found.append(Identifier(Kind.ANONYMOUS, anonymous))
        return found

    def strongest(self, event: Interaction) -> str:
        """The first of the identifiers as `kind:value`, by which records are keyed; '' where the
        event names nobody.
        """
        if event.user_id and (user := self.plain(event.user_id)):
            return f"user:{user}"
        if event.email and (email := self.address(event.email)):
            return f"email:{email}"
        if external := _external(self, event.external_id):
            return f"external:{external.text}"
        if event.touch_id:
            return f"external:{Identifier(Kind.EXTERNAL, event.touch_id, TOUCH_SYSTEM).text}"
        anonymous = self.plain(event.anonymous_id)
        return anonymous and f"anonymous:{anonymous}"


def _with_ascii_domain(address: str) -> str:
    """The address with its domain in punycode (UTS 46), as it was where there is no such domain."""
    local, at, domain = address.rpartition("@")
    if not at or len(domain) > MAX_DOMAIN:
        return address
    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode()}"
    except UnicodeError:
        return address


def _external(cleaner: Cleaner, given: ExternalId | None) -> Identifier | None:
    system = given.system.strip().lower() if given else ""
    if not given or not system or system.startswith(OURS) or _SEPARATOR in system:
        return None
    return (
        Identifier(Kind.EXTERNAL, given.id.strip(AROUND), system)
        if cleaner.plain(given.id)
        else None
    )
