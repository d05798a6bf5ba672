"""Servers of the company that uses Ripeline: its web site, and a flow of its CRM."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

CRM_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CRM_RULES = """  system: hubspot
  fields:
    {our_stage: stage, our_chance: band, our_why: "join('; ', reasons)", our_sales: sales_status}"""
Server = TypeVar("Server", bound=ThreadingHTTPServer)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serves in a thread of its own."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Site(ThreadingHTTPServer):
    """A company's web site: `pages` by path, and the paths that were requested."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _PageRequest)
        self.pages: dict[str, str] = {}
        self.requested: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _PageRequest(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requested.append(self.path)
        page = self.server.pages.get(self.path.partition("?")[0])
        self.send_response(200 if page else 404)
        kind = "javascript" if self.path.endswith(".js") else "html"
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""


class CrmFlow(ThreadingHTTPServer):
    """A CRM's flow: keeps what is written back as (headers, body), answers with the statuses in
    `answers`, and waits with those in `held` until their event is set, all by the lead's address.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _CrmRequest)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers: dict[str, list[int]] = {}
        self.held: dict[str, threading.Event] = {}
        self.redirect = ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}/in"

    def about(self, email: str) -> list[tuple[dict[str, str], bytes]]:
        """What was written back about the lead of this address."""
        return [
            (headers, body)
            for headers, body in list(self.received)
            if json.loads(body)["data"]["email"] == email
        ]


class _CrmRequest(BaseHTTPRequestHandler):
    server: CrmFlow

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        email = json.loads(body)["data"]["email"]
        self.server.received.append(
            ({name.lower(): value for name, value in self.headers.items()}, body)
        )
        if email in self.server.held:
            self.server.held[email].wait(30)
        answers = self.server.answers.get(email)
        with suppress(OSError):  # the scorer may be dead by now
            self.send_response(answers.pop(0) if answers else 204)
            self.send_header("Location", self.server.redirect)
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""
