"""Addresses with users and passwords, as people write them: raw signs in a password, no scheme,
libpq's words. No error shows a part of a secret.
"""

import re
from collections.abc import Sequence
from email.headerregistry import Address as MailAddress
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

SCHEME = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*+)://")
HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.%-]*)(?::\d{1,5})?"
HOSTS = re.compile(rf"{HOST}(?:,{HOST})*")
PORT = re.compile(r":(\d+)(?=,|$)")
QUERY = re.compile(r"(?:[\w.]+=[^&]*(?:&[\w.]+=[^&]*)*)?")
AT_OR_FRAGMENT = frozenset("@#")
SAFE = "/:?#[]@!$&'()*+,;=%"  # signs of an address that stay as they are
NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+):\d{1,5}")
PLAIN_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w.-]+", re.ASCII)
CONNECT_TIMEOUT = "connect_timeout"
LOCAL = re.compile(r"(localhost|127\.|\[::1\]|0\.0\.0\.0)", re.IGNORECASE)

# of libpq, read by asyncpg itself
LIBPQ_WORDS = frozenset(
    {
        "host", "port", "user", "password", "dbname", "passfile", "service", "sslmode", "sslcert",
        "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation", "target_session_attrs",
        "ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib",
        "application_name", "options",
    }
)  # fmt: skip
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSIONS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
# of libpq too, and of no effect here: what they ask for is so anyway, or the settings say it
WITHOUT_EFFECT = frozenset(
    {
        "client_encoding", "fallback_application_name", "gssencmode", "keepalives",
        "keepalives_idle", "keepalives_interval", "keepalives_count", "load_balance_hosts",
        "sslcompression", "sslsni", "tcp_user_timeout",
    }
)  # fmt: skip


class Address(NamedTuple):
    """The parts of an address, decoded; `place` is host and port, `tail` what follows them, as it
    was written.
    """

    scheme: str
    user: str
    password: str
    place: str
    tail: str

    def __str__(self) -> str:
        """The address with every sign of user and password encoded that needs it."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        owner = f"{user}{':' + password if password else ''}@" if user or password else ""
        return f"{self.scheme}://{owner}{self.place}{self.tail}"


def with_scheme(text: str, schemes: Sequence[str], default: str) -> tuple[str, str]:
    """The scheme, and what follows it. Raises ValueError for a scheme of another kind."""
    found = SCHEME.match(text)
    scheme = found[1].lower() if found else default
    if scheme not in schemes:
        raise ValueError(f"begin it with {default}://")
    return scheme, text[found.end() :] if found else text


def read_address(text: str, schemes: Sequence[str], default: str) -> Address:
    """An address `[scheme://][user[:password]@]host[:port][/…][?…]`, in which user and password
    may hold any sign. Raises ValueError where it is none.
    """
    scheme, rest = with_scheme(text, schemes, default)
    if any(ord(sign) < 33 for sign in rest):
        raise ValueError("write it without blanks and line ends")
    for end in _owners_ends(rest):
        place, tail = _divided(rest[end + 1 :])
        if _is_place(place, tail):
            user, _, password = rest[: max(end, 0)].partition(":")
            return Address(scheme, _decoded(user), _decoded(password), place, tail)
    raise ValueError(f"after {scheme}:// write user:password@host:port, the port as a number")


def _owners_ends(rest: str) -> list[int]:
    """Where user and password may end, the likeliest first: where a strict reader takes it, else at
    the last @ that a host can follow. -1 where there are none.
    """
    if "@" not in rest or rest.startswith("/"):
        return [-1]
    strict = re.split(r"[/?#]", rest, maxsplit=1)[0].rfind("@")
    others = [found.start() for found in re.finditer("@", rest)][::-1]
    return [strict, *others] if strict >= 0 else others


def _divided(rest: str) -> tuple[str, str]:
    end = min((at for sign in "/?#" if (at := rest.find(sign)) >= 0), default=len(rest))
    return rest[:end], rest[end:]


def _is_place(place: str, tail: str) -> bool:
    """Whether this can be what follows user and password."""
    path, mark, query = tail.partition("?")
    return bool(
        HOSTS.fullmatch(place)
        and all(int(port) < 65536 for port in PORT.findall(place))
        and not AT_OR_FRAGMENT & set(path)
        and (not mark or QUERY.fullmatch(query))
    )


def _decoded(text: str) -> str:
    """Percent-decoded, where it was encoded: a % that encodes nothing shows that it was not."""
    if NO_ESCAPE.search(text):
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def normal_database(text: str) -> str:
    """An address of PostgreSQL as asyncpg reads it, from what libpq, SQLAlchemy or Heroku would be
    given. Raises ValueError.
    """
    schemes = ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg")
    address = read_address(text, schemes, "postgresql")
    path, _, query = address.tail.partition("?")
    words = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))  # no form: + is +
    if "ssl" in words:  # SQLAlchemy's word
        words["sslmode"] = words.pop("ssl").replace("true", "require")
    words = {word: value for word, value in words.items() if word not in WITHOUT_EFFECT and value}
    if words.get("channel_binding") in ("disable", "prefer"):
        del words["channel_binding"]
    _check_words(words)
    path = path.rstrip("/")
    tail = f"{path}?{urlencode(words, quote_via=quote)}" if words else path
    return str(address._replace(scheme="postgresql", tail=tail))


def _check_words(words: dict[str, str]) -> None:
    for word, known in (("sslmode", SSL_MODES), ("target_session_attrs", SESSIONS)):
        if word in words and words[word] not in known:
            raise ValueError(f"{word} takes {', '.join(known)}")
    if unknown := sorted(words.keys() - LIBPQ_WORDS - {CONNECT_TIMEOUT}):
        allowed = ", ".join(sorted(LIBPQ_WORDS | {CONNECT_TIMEOUT}))
        raise ValueError(f"take out {', '.join(unknown)}; after the ? may stand {allowed}")
    if not words.get(CONNECT_TIMEOUT, "0").isdecimal():
        raise ValueError("connect_timeout takes whole seconds")
    for word in FILES:
        if word in words and not Path(words[word]).is_file():
            raise ValueError(f"{word} names a file that is not there: {words[word]}")


class DatabaseAddress(NamedTuple):
    """What asyncpg is given: the address, the seconds that connecting may take (0: ours), and
    whether it says what the application is called.
    """

    dsn: str
    connect_s: int
    has_name: bool

    @classmethod
    def of(cls, normal: str, password: str = "") -> Self:
        """From what `normal_database` returned; `password` goes where that names none."""
        address = read_address(normal, ("postgresql",), "postgresql")
        path, _, query = address.tail.partition("?")
        words = dict(parse_qsl(query))
        connect_s = int(words.pop(CONNECT_TIMEOUT, 0))
        tail = f"{path}?{urlencode(words, quote_via=quote)}" if words else path
        if not address.password and "password" not in words:
            address = address._replace(password=password)
        return cls(str(address._replace(tail=tail)), connect_s, "application_name" in words)


def normal_http(text: str) -> str:
    """An address of http or https without a slash at its end, https where it says neither and is
    not of this machine. Raises ValueError.
    """
    default = "http" if LOCAL.match(text) else "https"
    scheme, rest = with_scheme(text, ("http", "https"), default)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or any(ord(sign) < 33 for sign in rest):
        raise ValueError("write https://host/…, without blanks")
    return (f"{scheme}://{rest}" if rest.isascii() else _in_ascii(parts)).rstrip("/")


def _in_ascii(parts: SplitResult) -> str:
    """The address as headers of mails and HTTP take it (RFC 3986, 3492)."""
    tail = (quote(part, safe=SAFE) for part in parts[2:])
    return urlunsplit((parts.scheme, parts.netloc.encode("idna").decode(), *tail))


def normal_mail(text: str) -> str:
    """An address of SMTP; smtps where it says no scheme and has the port of that. Raises
    ValueError.
    """
    address = read_address(text, ("smtp", "smtps"), "smtp")
    if not SCHEME.match(text) and address.place.endswith(":465"):
        address = address._replace(scheme="smtps")
    if not urlsplit(str(address)).hostname or "," in address.place:
        raise ValueError("after smtp:// or smtps:// write user:password@host:port")
    return str(address)


def read_sender(text: str) -> MailAddress:
    """A sender of mails: an address, or a name and `<address>`. The name may hold what has to be
    quoted in a mail, the domain any letter. Raises ValueError.
    """
    named = re.fullmatch(r"([^<>]*)<([^<>]*)>", text.strip())
    name, address = (named[1].strip(), named[2].strip()) if named else ("", text.strip())
    user, _, domain = address.rpartition("@")
    try:
        sender = MailAddress(name.strip('"'), user, domain.encode("idna").decode())
    except (ValueError, IndexError):
        sender = MailAddress()
    if not PLAIN_ADDRESS.fullmatch(sender.addr_spec) or any(ord(sign) < 32 for sign in text):
        raise ValueError("write NAME <address@domain> or address@domain")
    return sender


def normal_mailbox(text: str) -> str:
    """An address of IMAP; imaps where it says no scheme. Raises ValueError."""
    address = read_address(text, ("imap", "imaps"), "imaps")
    if not address.user or not urlsplit(str(address)).hostname or "," in address.place:
        raise ValueError("after imaps:// write user:password@host/FOLDER")
    return str(address)


def normal_servers(text: str) -> str:
    """`host:port` of each Kafka server, comma-separated; 9092 where no port is written. Raises
    ValueError.
    """
    servers = [SCHEME.sub("", server.strip()).rstrip("/") for server in text.split(",")]
    servers = [server if PORT.search(server) else f"{server}:9092" for server in servers if server]
    if not servers or not all(map(SERVER.fullmatch, servers)):
        raise ValueError("write host:port, several with commas between")
    return ",".join(servers)
