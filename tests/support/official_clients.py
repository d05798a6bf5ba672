"""Senders' own clients, fetched as people fetch them (pip, Maven, Go), once for this machine.

`python -m tests.support.official_clients` fetches all of them ahead. Old clients for Python
conflict with new ones, so each has a folder of its own.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from services.ingest.http.client_errors import ClientErrors
from services.shared.errors import Kind, Reject
from services.shared.http.problems import problem_response

STORIES = Path(__file__).parents[1] / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ripeline" / "clients"
GO = shutil.which("go") or "/usr/local/go/bin/go"
SECONDS = 300  # for one client to be fetched
PYTHON = {
    "segment 2.4": "segment-analytics-python==2.4.0",
    "segment 2.3": "segment-analytics-python==2.3.4",
    "segment 1.4": "analytics-python==1.4.post1",
    "rudderstack 2.1": "rudder-sdk-python==2.1.9",
    "rudderstack 2.0": "rudder-sdk-python==2.0.2",
}
RETRY_AFTER_S = 1  # in place of our 5, so that a test does not wait as long


class Missing(Exception):
    """A client cannot be fetched here."""


def python_client(name: str) -> Path:
    """The folder of a client for Python. Raises Missing."""
    requirement = PYTHON[name]

    def fetch(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--target", str(folder), requirement])

    return _fetched(f"python-{requirement}", fetch)


def java_clients() -> Path:
    """The folder of the jars. Raises Missing."""
    maven, pom = shutil.which("mvn"), STORIES / "pom.xml"
    if not maven or not shutil.which("javac"):
        raise Missing("a JDK and Maven are needed")

    def fetch(folder: Path) -> None:
        copy = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        _run([maven, "-q", "-B", "-f", str(pom), *copy])
        _run(["javac", "-cp", f"{folder}/*", "-d", str(folder), str(STORIES / "Story.java")])

    return _fetched(f"java-{_digest('pom.xml', 'Story.java')}", fetch)


def go_client() -> Path:
    """The program that tells the story by Go's client. Raises Missing."""
    if not Path(GO).exists():
        raise Missing("Go is needed")

    def fetch(folder: Path) -> None:
        build = [GO, "build", "-buildvcs=false", "-o", str(folder / "story"), "."]
        _run(build, cwd=STORIES)

    return _fetched(f"go-{_digest('go.sum', 'story.go')}", fetch) / "story"


def _digest(*files: str) -> str:
    return hashlib.sha256(b"".join((STORIES / file).read_bytes() for file in files)).hexdigest()[
        :12
    ]


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
        raise Missing(f"{Path(command[0]).name} failed: {lines[-1][:300]}")


def _fetched(name: str, fetch: Callable[[Path], None]) -> Path:
    """The folder of this name; fetched once, by one process."""
    folder = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            fresh = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=CACHE))
            try:
                fetch(fresh)
            except Missing:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            fresh.rename(folder)
    return folder


# -- a host that refuses at first -----------------------------------------------------------------


class Gate:
    """A host in front of ingest that answers the first posts with refusals, as ingest words them,
    and passes the others on.
    """

    def __init__(self, ingest: str, refusals: Sequence[Kind]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Passing, ingest, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.left = list(refusals)
        self.lock = threading.Lock()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, ingest: str, gate: Gate, *named: object) -> None:
        self._ingest, self._gate = ingest, gate
        super().__init__(*named)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with self._gate.lock:
            kind = self._gate.left.pop(0) if self._gate.left else None
        if kind:
            answer = asyncio.run(worded(kind))
            self._answer(answer)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        passed = httpx.post(self._ingest + self.path, content=body, headers=headers, timeout=20)
        self._answer(passed)

    def _answer(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("content-type", ""))
        if answer.status_code >= 400:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps silent."""


async def worded(kind: Kind) -> httpx.Response:
    """A refusal as ingest answers it at a path of Segment's."""

    path, reject = "/v1/batch", Reject("not now", remedy="send it again later", kind=kind)
    app = ClientErrors(problem_response(reject), paths=frozenset({path}))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
        return await client.post(path)


def main() -> None:
    """Fetches every client."""
    fetches: list[Callable[[], Path]] = [partial(python_client, name) for name in PYTHON]
    for fetch in [*fetches, java_clients, go_client]:
        try:
            fetch()
        except Missing as missing:
            print(missing, file=sys.stderr)


if __name__ == "__main__":
    main()
