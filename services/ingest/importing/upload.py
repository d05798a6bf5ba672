"""A file on its way in: the multipart body goes to disk as it comes, within limits of size and
time.
"""

import asyncio
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from services.shared.errors import Reject

FIELD = b"file"
CHUNK_SECONDS = 30
MAX_HEADERS = 16 * 1024
MAX_NAME = 200


class Upload:
    """The file of one request; everything else in its body is left out."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._left = path, max_bytes
        self._name, self._value, self._headers, self._size = b"", b"", dict[bytes, bytes](), 0
        self._here = False
        self.name = ""
        self.complete = False

    async def receive(self, request: Request) -> str:
        """Writes the file and returns its name. Raises Reject `invalid`, `too-large`."""
        boundary = parse_options_header(request.headers.get("content-type"))[1].get(
            b"boundary", b""
        )
        if not boundary:
            raise Reject("no file was sent", remedy="choose one, and send it by the form")
        callbacks = {
            "on_part_begin": self._begin, "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header, "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_end": self._finish,
        }  # fmt: skip
        stream = aiter(request.stream())
        try:
            parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
            with self._path.open("wb") as self._file:
                while True:
                    async with asyncio.timeout(CHUNK_SECONDS):
                        chunk = await anext(stream, b"")
                    if not chunk:
                        break
                    parser.write(chunk)
        except (FormParserError, ClientDisconnect, TimeoutError):
            raise Reject("the file did not arrive whole", remedy="send it again") from None
        if not self.complete:
            raise Reject("the file did not arrive whole", remedy="send it again")
        if not self.name:
            raise Reject("no file was chosen", remedy="choose a CSV file")
        return self.name

    def _begin(self) -> None:
        self._headers, self._size, self._here = {}, 0, False

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._within(data[start:end])

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._within(data[start:end])

    def _within(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > MAX_HEADERS:
            raise Reject("the headers of a part are too long", remedy="send the file by the form")
        return data

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _on_headers(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        named = options.get(b"filename", b"").decode("utf-8", "replace").strip()
        self._here = options.get(b"name") == FIELD and bool(named) and not self.name
        if self._here:
            self.name = named[:MAX_NAME]

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._left -= end - start
        if self._left < 0:
            raise Reject(
                "the file is too large",
                remedy="cut it in pieces, or use `ripeline import`",
                kind="too-large",
            )
        if self._here:
            self._file.write(data[start:end])

    def _finish(self) -> None:
        self.complete = True
