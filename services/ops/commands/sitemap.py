"""Reads sitemaps, from files or by HTTP: bounded in size, count and time, and in production from no
host inside our own network but those that RIPELINE_PRIVATE_RECEIVERS names.
"""

import asyncio
import time
import zlib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat

import aiohttp

from services.shared.errors import Reject, Retry
from services.shared.http.webhook import ALLOW, CheckingResolver, Networks, NotPublic
from services.shared.setting_texts import receiver
from services.shared.settings import Settings

MAX_BYTES = 50 * 1024 * 1024  # of one sitemap, by the protocol; also of what a .gz holds
MAX_SITEMAPS = 50
MAX_REDIRECTS = 5
MAX_URL = 2_048
SECONDS = 60.0  # for all of them together
CHUNK = 64 * 1024
GZIP = b"\x1f\x8b"
TITLES = ("title",)  # of news, images and videos


class Entry(NamedTuple):
    """An address of a sitemap, and its title where one is said."""

    url: str
    title: str


class Sitemap(NamedTuple):
    """What was read; `left` says what was not."""

    entries: list[Entry]
    documents: int
    left: list[str]


async def read(place: str, settings: Settings, limit: int) -> Sitemap:
    """The addresses of a sitemap, of a file or a URL, and of those that an index names. Raises
    Reject for what cannot be read, Retry where nobody answers.
    """
    entries: dict[str, str] = {}
    left: list[str] = []
    waiting, seen = [place], {place}
    ends, documents = time.monotonic() + SECONDS, 0
    while waiting and len(entries) < limit:
        current = waiting.pop(0)
        if documents == MAX_SITEMAPS or time.monotonic() > ends:
            left.append(f"{len(waiting) + 1} further sitemaps were not read")
            break
        try:
            body = await _bytes(current, settings, ends)
            document = parse(body, limit)
        except (Reject, Retry) as error:
            if not documents:
                raise
            left.append(f"{current}: {error}")
            continue
        finally:
            documents += 1
        entries |= {entry.url: entry.title for entry in document.entries}
        for name in document.sitemaps:
            further = _further(current, name)
            if further and further not in seen:
                seen.add(further)
                waiting.append(further)
    if len(entries) > limit:
        left.append(f"more than {limit} addresses: the first were taken")
    return Sitemap([Entry(*each) for each in list(entries.items())[:limit]], documents, left)


def _further(current: str, name: str) -> str:
    """A sitemap that another one names: by HTTP, or a file beside the file."""
    if urlsplit(current).scheme in ("http", "https"):
        return urljoin(current, name)
    if urlsplit(name).scheme in ("http", "https"):
        return name
    beside = Path(current).parent / Path(name).name
    return str(beside) if beside.is_file() else ""


class Document(NamedTuple):
    """One parsed sitemap: its addresses, and the sitemaps that it names."""

    entries: list[Entry]
    sitemaps: list[str]


def parse(body: bytes, limit: int) -> Document:
    """A sitemap, a sitemap index or a list of addresses, one a line. Raises Reject."""
    body = _unpacked(body)
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        lines = [line.strip() for line in body.decode("utf-8", "replace").splitlines()]
        return Document([Entry(line, "") for line in lines if _is_address(line)][: limit + 1], [])
    reader = _Reader(limit)
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError as error:
        remedy = "give a sitemap.xml, a sitemap index or a list of addresses"
        raise Reject(f"no sitemap: {error}", where="SITEMAP", remedy=remedy) from None
    if not reader.is_sitemap:
        remedy = "its first element is `urlset` or `sitemapindex`"
        raise Reject("no sitemap", where="SITEMAP", remedy=remedy)
    return Document(reader.entries, reader.sitemaps)


class _Reader:
    """Collects addresses; a document type, by which entities grow, is refused."""

    def __init__(self, limit: int) -> None:
        self.entries: list[Entry] = []
        self.sitemaps: list[str] = []
        self.is_sitemap = False
        self._limit, self._path, self._text = limit, [""], ""
        self._url, self._title = "", ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = _refuse_doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _start(self, name: str, _: object) -> None:
        name = name.rpartition(" ")[2]
        if len(self._path) == 1:
            self.is_sitemap = name in ("urlset", "sitemapindex")
        if len(self._path) > 20:
            raise Reject("nested too deeply", where="SITEMAP", remedy="give a sitemap")
        self._path.append(name)
        self._text = ""
        if name in ("url", "sitemap"):
            self._url = self._title = ""

    def _characters(self, text: str) -> None:
        if len(self._text) < MAX_URL:
            self._text += text[:MAX_URL]

    def _end(self, name: str) -> None:
        name, parent, text = self._path.pop(), self._path[-1], self._text.strip()
        if name == "loc" and parent in ("url", "sitemap"):
            self._url = text
        elif name in TITLES and not self._title:
            self._title = text
        elif name == "sitemap" and len(self.sitemaps) < MAX_SITEMAPS and _is_address(self._url):
            self.sitemaps.append(self._url)
        elif name == "url" and len(self.entries) <= self._limit and _is_address(self._url):
            self.entries.append(Entry(self._url, self._title))
        self._text = ""


def _refuse_doctype(*_: object) -> None:
    raise Reject("it declares a document type", where="SITEMAP", remedy="take out <!DOCTYPE …>")


def _is_address(text: str) -> bool:
    return len(text) < MAX_URL and text.startswith(("http://", "https://"))


def _unpacked(body: bytes) -> bytes:
    if not body.startswith(GZIP):
        return body
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(body, MAX_BYTES)
    except zlib.error:
        raise Reject("its compression is broken", where="SITEMAP", remedy="pack it again") from None
    if unpacker.unconsumed_tail:
        raise _too_large()
    return unpacked


def _too_large() -> Reject:
    remedy = "split it, as the protocol of sitemaps asks"
    return Reject(f"more than {MAX_BYTES >> 20} MiB", where="SITEMAP", remedy=remedy)


async def _bytes(place: str, settings: Settings, ends: float) -> bytes:
    if urlsplit(place).scheme in ("http", "https"):
        return await _fetched(place, settings, ends)
    try:
        return await asyncio.to_thread(_of_file, Path(place))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Reject(f"{place}: {reason}", where="SITEMAP", remedy="name a file or a URL") from None


def _of_file(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise _too_large()
    return path.read_bytes()


async def _fetched(url: str, settings: Settings, ends: float) -> bytes:
    """By HTTP; each redirect is checked like the first address."""
    for _ in range(MAX_REDIRECTS + 1):
        networks = None
        if settings.environment == "production":
            networks = Networks(map(receiver, settings.private_receivers), url)
            if not networks.may_be_named(urlsplit(url).hostname or ""):
                raise _not_public(url)
        connector = aiohttp.TCPConnector(
            resolver=CheckingResolver(networks) if networks else None, use_dns_cache=False
        )
        timeout = aiohttp.ClientTimeout(total=max(ends - time.monotonic(), 0.1))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(url, allow_redirects=False) as answer,
            ):
                if not 300 <= answer.status < 400:
                    return await _body(answer, url)
                target = urljoin(url, answer.headers.get("Location", ""))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(error.__cause__, NotPublic):
                raise _not_public(url) from error
            raise Retry(f"{url} does not answer: {type(error).__name__}") from error
        if urlsplit(target).scheme not in ("http", "https"):
            break
        url = target
    raise Reject(f"{url} redirects too often", where="SITEMAP", remedy="name the last address")


async def _body(answer: aiohttp.ClientResponse, url: str) -> bytes:
    if answer.status != 200:
        remedy = "look at robots.txt, which names it"
        raise Reject(f"{url} answered {answer.status}", where="SITEMAP", remedy=remedy)
    body = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > MAX_BYTES:
            raise _too_large()
    return bytes(body)


def _not_public(url: str) -> Reject:
    host = urlsplit(url).hostname or ""
    remedy = f"name a public host, a file, or add {host} to {ALLOW}"
    return Reject(f"{host} is not a public address", where="SITEMAP", remedy=remedy)
