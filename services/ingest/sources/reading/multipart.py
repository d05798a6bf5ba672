"""Cuts the body of a form, multipart/form-data or urlencoded, into its parts, as bytes."""

from typing import NamedTuple
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.ingest.sources.contract import InboundRequest
from services.shared.errors import Reject

MULTIPART = "multipart/form-data"
MAX_PARTS = 500


class Part(NamedTuple):
    """A field, or a file where `is_file`; `media` is its content type without parameters, in lower
    case.
    """

    name: str
    value: bytes
    media: str = ""
    is_file: bool = False


def parts(request: InboundRequest) -> list[Part]:
    """The named parts, in order. Raises Reject for a body that is cut off, has no boundary or too
    many parts.
    """
    boundary = parse_options_header(request.headers.get("content-type"))[1].get(b"boundary", b"")
    if not boundary:
        raise Reject(
            "no boundary in the content type", where="Content-Type", remedy="let the browser set it"
        )
    reader = _PartCollector()
    try:
        parser = MultipartParser(boundary, reader.callbacks)  # type: ignore[arg-type]
        parser.write(request.body)
        if not reader.complete:
            raise MultipartParseError("it stops in the middle")
        return reader.found
    except UnicodeDecodeError:
        raise not_utf8() from None
    except FormParserError as error:  # of the body, or of a boundary that is none
        raise Reject(
            f"not multipart/form-data: {error}", remedy="end it with the closing boundary"
        ) from None


def either(request: InboundRequest) -> list[Part]:
    """The parts of a form in either encoding, whatever the charset of its values. Raises Reject."""
    if request.media == MULTIPART:
        return parts(request)
    body = request.body.decode("utf-8", "surrogateescape")
    try:
        pairs = parse_qsl(
            body, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_PARTS
        )
        return [Part(name, value.encode("utf-8", "surrogateescape")) for name, value in pairs]
    except UnicodeEncodeError:
        raise not_utf8() from None
    except ValueError:
        raise too_many() from None


def not_utf8() -> Reject:
    """The refusal of a form in another encoding."""
    return Reject("the form is not UTF-8", remedy='give the form `accept-charset="utf-8"`')


def too_many() -> Reject:
    """The refusal of a form with too many fields."""
    return Reject(f"more than {MAX_PARTS} fields", remedy="send fewer", kind="too-large")


class _PartCollector:
    """Collects the parts while the parser walks over the body."""

    def __init__(self) -> None:
        self.found: list[Part] = []
        self._name, self._value, self._headers = b"", bytearray(), dict[bytes, bytes]()
        self._data = bytearray()
        self._begun = 0  # parts, with those that have no name
        self.complete = False
        self.callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._data = {}, bytearray()
        self._begun += 1
        if self._begun > MAX_PARTS:
            raise too_many()

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = bytes(self._value)
        self._name, self._value = b"", bytearray()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        if name := options.get(b"name"):
            media = (
                self._headers.get(b"content-type", b"")
                .partition(b";")[0]
                .strip()
                .lower()
                .decode("latin-1")
            )
            self.found.append(Part(name.decode(), bytes(self._data), media, b"filename" in options))

    def _finish(self) -> None:
        self.complete = True
