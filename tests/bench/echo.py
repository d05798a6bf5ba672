"""A server that answers everything at once and does nothing: it shows what the load driver itself
can do.
"""

import asyncio

import uvloop

from services.shared.settings import Settings

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n" + b'{"accepted":1}'


class Echo(asyncio.Protocol):
    """One answer for each piece that comes in; the driver sends a request in one piece."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)


async def main(settings: Settings) -> None:
    """Listens until it is ended."""
    server = await asyncio.get_running_loop().create_server(Echo, settings.host, settings.port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(Settings()))
