"""A mail server that delivers nowhere: every mail becomes one .eml in a folder; for trying out."""

import argparse
import asyncio
import json
import signal
import time
from pathlib import Path
from uuid import uuid4

from aiosmtpd.smtp import SMTP, Envelope, Session


class Folder:
    """Keeps each mail as it came, under names that sort by time; a reader never sees half a
    file.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Store one mail; the name of this method is aiosmtpd's."""
        name = f"{time.time_ns()}-{uuid4().hex[:8]}"
        unfinished = self._path / f".{name}"
        unfinished.write_bytes(envelope.original_content or b"")
        unfinished.rename(self._path / f"{name}.eml")
        return "250 kept"


async def serve(folder: Path, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
    """Listen there; port 0 takes a free one. Close the server to stop it."""
    keeper = Folder(folder)
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: SMTP(keeper, enable_SMTPUTF8=True, hostname="sink"), host, port
    )


def address(server: asyncio.Server) -> str:
    """The host:port that a server of `serve` listens on."""
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"


async def _run(folder: Path, host: str, port: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server = await serve(folder, host, port)
    print(json.dumps({"smtp": address(server), "mail": str(folder)}), flush=True)
    await stopping.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM; the first line of stdout is the address and the folder, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the .eml files go")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1025, help="0 takes a free one")
    chosen = parser.parse_args()
    asyncio.run(_run(chosen.folder, chosen.host, chosen.port))


if __name__ == "__main__":
    main()
