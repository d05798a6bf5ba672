"""Reads an XML body as objects, lists and texts, within limits."""

from typing import Any
from xml.parsers import expat

import xmltodict

from services.ingest.sources.reading.json import MAX_DEPTH, TOO_DEEP
from services.shared.errors import Reject

MAX_ELEMENTS = 100_000


def read_xml(body: bytes) -> Any:
    """Elements by their names without prefix, attributes after an @; nil is null, several alike are
    a list.
    """
    try:
        _Limits().parser.Parse(body, True)
        return xmltodict.parse(body, postprocessor=_plain)  # type: ignore[arg-type]  # it may leave something out
    # ValueError, LookupError: an unknown encoding
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Reject(
            f"XML is malformed: {error}", remedy="send one whole XML document in UTF-8"
        ) from None


def _plain(_: Any, name: str, value: Any) -> tuple[str, Any] | None:
    if name.startswith("@xmlns"):
        return None
    sign, local = "@" if name.startswith("@") else "", name.rpartition(":")[2].removeprefix("@")
    return sign + local, None if isinstance(value, dict) and value.get("@nil") in (
        "true",
        "1",
    ) else value


class _Limits:
    """Refuses what makes a small document large: entities, depth, elements without end."""

    def __init__(self) -> None:
        self._depth = self._count = 0
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._declare

    def _begin(self, _: str, __: Any) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH:
            raise TOO_DEEP
        if self._count > MAX_ELEMENTS:
            raise Reject(
                f"more than {MAX_ELEMENTS:,} elements",
                remedy="send fewer at once",
                kind="too-large",
            )

    def _end(self, _: str) -> None:
        self._depth -= 1

    def _declare(self, *_: Any) -> None:
        raise Reject("a document type", remedy="leave the DOCTYPE out: it could declare entities")
