"""A TCP proxy: closed it refuses connections, opened it passes them on; so a server can be away at
first.
"""

import socket
import socketserver
import threading
from typing import Self

from tests.support.ports import free_port


class Proxy:
    """Listens on `address` while it is open, and passes everything on to `behind` (host:port)."""

    def __init__(self, behind: str) -> None:
        host, _, port = behind.rpartition(":")
        self.behind = host, int(port)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._server: _Server | None = None

    def open(self) -> Self:
        """Accepts connections from now on."""
        self._server = _Server(("127.0.0.1", self.port), _Connection)
        self._server.behind = self.behind
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def close(self) -> None:
        """Refuses connections from now on."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    block_on_close = False
    behind: tuple[str, int]


class _Connection(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        with socket.create_connection(self.server.behind) as inner:
            back = threading.Thread(target=_copy, args=(inner, self.request), daemon=True)
            back.start()
            _copy(self.request, inner)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
