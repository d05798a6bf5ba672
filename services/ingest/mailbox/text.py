"""A mail as text: its headers decoded, and its body without markup, quotations and
signature.

Everybody may write to us, so nothing here takes more than linear time, and no charset can make it
fail.
"""

import codecs
import html
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser, HeaderParser
from email.policy import Compat32

Mail = Message
MAX_HEADER = 4_000  # characters of a header that are read
MAX_BODY = 64 * 1024  # bytes of a body that are read
MAX_TEXT = 2_000  # characters of a person's own words that are kept
MAX_PARTS = 200
# of no mail, and the first two are slow
SLOW_CODECS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape"})

TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*+)[^<>]*+>|<[!?][^<>]*+>")
UNSEEN = frozenset({"head", "style", "script", "title"})
BLOCKS = frozenset(
    {
        "br",
        "p",
        "div",
        "tr",
        "li",
        "ul",
        "ol",
        "table",
        "hr",
        "pre",
        "h1",
        "h2",
        "h3",
        "h4",
        "blockquote",
    }
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff\ud800-\udfff]")

ATTRIBUTION = re.compile(  # "On Monday … wrote:", in one to three lines
    r"\s*(?:On|Am|Le|El|Il|Op|Em|Den|På|Dnia|W "
    r"dniu|\d{1,4}[./-]\d)\b[^\n\d]{0,80}+\d.{0,330}?\b(?:wrote|schrieb|a écrit|escribió"
    r"|ha scritto|schreef|escreveu|skrev|napisał|\(a\))\b[^\n:]{0,120}:\s*(?:\n|$)",
    re.IGNORECASE | re.DOTALL,
)
DIVIDER = re.compile(  # "--- Original Message ---", "______"
    r"\s*[-_=*]{2,}\s*[^\W\d_][^-_=*\n]{2,50}[-_=*]{2,}\s*|\s*_{10,}\s*|\s*-{20,}\s*"
)
FROM = re.compile(r"\W{0,3}(?:From|Von|De|Da|Van|Från|Fra|Od|Lähettäjä)\W{0,2}:", re.IGNORECASE)
BELOW_FROM = re.compile(
    r"\W{0,3}(?:Sent|Date|To|Subject|Gesendet|Datum|An|Betreff|Envoyé|À|Objet|Enviado|Fecha|Para|Asunto|Inviato|Data|Oggetto"
    r"|Verzonden|Aan|Onderwerp|Assunto|Skickat|Till|Ämne|Sendt|Til|Emne|Wysłano|Do|Temat)\W{0,2}:",
    re.IGNORECASE,
)
SIGNATURE = re.compile(
    r"\s*(?:--|—)\s*|\s*(?:Sent from|Get Outlook for|Von meinem \S+(?: \S+)? gesendet|Gesendet "
    r"(?:von|mit)|Envoyé (?:de|depuis)"
    r"|Enviado (?:desde|do|de)|Inviato da|Verstuurd vanaf|Verzonden vanaf|Skickat från|Sendt "
    r"fra)\b.{0,80}",
    re.IGNORECASE,
)


class _ShortHeaders(Compat32):
    """Keeps the beginning of a header: the parser takes quadratic time over its parameters."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:MAX_HEADER]


POLICY = _ShortHeaders()


def parsed(raw: bytes) -> Mail:
    """A mail from its bytes; the parser accepts any bytes."""
    return BytesParser(policy=POLICY).parsebytes(raw)


def raw_header(mail: Mail, name: str) -> str:
    """The first header of this name in one line, encoded words as they came; '' where there is
    none.
    """
    value = next((value for key, value in mail.raw_items() if key.lower() == name), "")
    one_line = " ".join(str(value)[:MAX_HEADER].split())
    return decoded(one_line.encode("utf-8", "surrogateescape"), "utf-8")


def header(mail: Mail, name: str) -> str:
    """The first header of this name as people read it."""
    value = raw_header(mail, name)
    try:
        pieces = decode_header(value)
    except HeaderParseError:
        return value
    return clean(
        "".join(
            piece if isinstance(piece, str) else decoded(piece, charset or "utf-8")
            for piece, charset in pieces
        )
    )


def decoded(data: bytes, charset: str) -> str:
    """Bytes as text: in their charset, else in UTF-8, else in cp1252."""
    for name in (charset, "utf-8"):
        try:
            if codecs.lookup(name).name not in SLOW_CODECS:
                return data.decode(name)
        except (LookupError, ValueError):
            continue
    return data.decode("cp1252", "replace")


def clean(text: str) -> str:
    """Text without control and invisible characters."""
    return CONTROL.sub("", text)


def parts(mail: Mail, *, inside: bool = False) -> Iterator[Mail]:
    """The leaves of a mail in order; those of enclosed messages only where asked for."""
    waiting, seen = [mail], 0
    while waiting and seen < MAX_PARTS:
        part, seen = waiting.pop(), seen + 1
        within = part.get_payload()
        if not isinstance(within, list) or (
            part.get_content_maintype() == "message" and not inside
        ):
            yield part
        else:
            waiting += [child for child in reversed(within) if isinstance(child, Message)]


def content(part: Mail) -> str:
    """A leaf's text, decoded."""
    data = part.get_payload(decode=True)
    return (
        decoded(data[:MAX_BODY], str(part.get_content_charset() or "utf-8"))
        if isinstance(data, bytes)
        else ""
    )


def headers_in(text: str) -> Mail:
    """Headers that stand in a text, as a mail without body."""
    return HeaderParser(policy=POLICY).parsestr(text)


def body(mail: Mail) -> str:
    """The text that a person reads: the first plain part, else the first of HTML without its
    markup.
    """
    found: dict[str, str] = {}
    for part in parts(mail):
        kind = part.get_content_type()
        if kind in ("text/plain", "text/html") and part.get_content_disposition() != "attachment":
            text = content(part)
            if text.strip():
                found.setdefault(kind, text)
    if "text/plain" in found:
        return found["text/plain"]
    return without_markup(found.get("text/html", ""))


def without_markup(page: str) -> str:
    """The words of HTML; what it quotes stands behind `>`, as in a plain mail."""
    first, *commented = page.split("<!--")
    page = first + "".join(piece.partition("-->")[2] for piece in commented)
    words: list[str] = []
    unseen, depth, end = "", 0, 0

    def add(text: str) -> None:
        if not unseen and text:
            words.append(re.sub(r"\s+", " ", html.unescape(text)))

    for tag in TAG.finditer(page):
        add(page[end : tag.start()])
        end = tag.end()
        closing, name = tag[1], (tag[2] or "").lower()
        if name in UNSEEN:
            unseen = "" if closing else unseen or name
        if name == "blockquote":
            depth = max(depth + (-1 if closing else 1), 0)
        if name in BLOCKS:
            words.append("\n> " if depth else "\n")
    add(page[end:])
    return "".join(words)


def own_words(text: str) -> str:
    """What the writer of a mail added: without what is quoted, wherever that stands, and without
    the signature.
    """
    lines = [
        clean(line.replace("\xa0", " ")).rstrip()
        for line in re.split(r"\r\n|\r|\n", text[:MAX_BODY])
    ]
    kept: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if _is_quoted(line):
            if number == 0 or not _is_quoted(lines[number - 1]):
                _forget_attribution(kept)
        elif count := _attribution(lines, number):
            number += count
            if not _is_quoted(next(filter(None, lines[number : number + 3]), "")):
                break
            continue
        elif _rest_is_quoted(lines, number) or (
            SIGNATURE.fullmatch(line) and not _quote_follows(lines, number)
        ):
            break
        elif not SIGNATURE.fullmatch(line):
            kept.append(line.strip())
        number += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()[:MAX_TEXT]


def _is_quoted(line: str) -> bool:
    return line.lstrip()[:1] == ">"


def _quote_follows(lines: list[str], number: int) -> bool:
    """Whether a quotation stands below a signature, so that the mail may go on after both."""
    return any(_is_quoted(line) for line in lines[number + 1 : number + 12])


def _attribution(lines: list[str], number: int) -> int:
    """How many lines the "On Monday … wrote:" has that begins here."""
    if not lines[number].strip() or not (
        found := ATTRIBUTION.match("\n".join(lines[number : number + 3]))
    ):
        return 0
    return found[0].rstrip().count("\n") + 1


def _forget_attribution(kept: list[str]) -> None:
    """Takes back the line above a quotation that says who is quoted, in whatever language."""
    while kept and not kept[-1]:
        kept.pop()
    if kept and kept[-1].endswith(":") and re.search(r"\d|@", kept[-1]):
        kept.pop()


def _rest_is_quoted(lines: list[str], number: int) -> bool:
    """Whether everything from here on is another mail: a divider, or the block of headers that
    Outlook puts above it.
    """
    if DIVIDER.fullmatch(lines[number]):
        return True
    return bool(FROM.match(lines[number])) and any(
        BELOW_FROM.match(line) for line in lines[number + 1 : number + 5]
    )
