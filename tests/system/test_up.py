"""`ripeline up` and `ripeline demo` on their embedded parts: what they promise, and that they leave
nothing behind.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.embedded.processes import tied
from services.shared.settings import PORTS, ROOT, Settings
from tests.support import present
from tests.support.running_system import wait_until


class Up:
    """A running `ripeline up`, its lines, and the only folder in which it may leave temporary
    files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self.folder, self.log = folder / "tmp", folder / "log"
        self.folder.mkdir()
        self.folder.chmod(0o755)
        self.environment = present.environment() | {"TMPDIR": str(self.folder)}
        with self.log.open("ab") as log:
            command = tied([sys.executable, "-m", "services.ops", "up"])
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=log
            )
        self._lines: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.line = self.next_line(60)

    def _listen(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(json.loads(line))

    def next_line(self, seconds: float) -> dict[str, Any]:
        """The next line of stdout."""
        return self._lines.get(timeout=seconds)

    @property
    def children(self) -> list[int]:
        """The pids that the first line names."""
        pids = self.line["pids"]
        return [
            *pids["ingest"],
            *pids["scorer"],
            *pids["nurture"],
            pids["postgres"],
            pids["broker"],
        ]


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        if Path(f"/proc/{pid}").exists()
        else False
    )


def ready(url: str) -> bool:
    """Whether a service answers that it is."""
    try:
        return httpx.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def up(scratch: Path) -> Iterator[Up]:
    with socket.socket() as taken:
        with suppress(OSError):  # where another system has taken it already
            taken.bind(("127.0.0.1", PORTS["nurture"]))
            taken.listen()
        up = Up(scratch / "up")
    yield up
    if up.process.poll() is None:
        up.process.terminate()
        up.process.wait(60)


def test_the_first_line_says_all_that_curl_needs(up: Up) -> None:
    """U1, O1."""
    line = up.line
    names = {"ingest", "scorer", "nurture", "keys", "mail", "pids", "database", "kafka"}
    assert set(line) == names | {"taken"}
    assert line["taken"]["nurture"] == PORTS["nurture"]
    for service, port in line["taken"].items():
        assert line[service] != f"http://127.0.0.1:{port}"
        assert f"port {port} is taken by another program: {service} is at {line[service]}" in (
            up.log.read_text()
        )
    assert set(line["keys"]) == {"secret", "public", "query"}
    assert set(line["pids"]) == {"ingest", "scorer", "nurture", "postgres", "broker"}
    assert all(lives(pid) for pid in up.children)
    assert len(set(up.children)) == 5
    for service in ("ingest", "scorer", "nurture"):
        assert ready(line[service])
        assert httpx.get(f"{line[service]}/health/live").status_code == 200
        assert "ripeline_" in httpx.get(f"{line[service]}/metrics").text
    assert Path(line["mail"]).is_dir()
    assert "one consumer a group" in up.log.read_text()


def test_other_commands_find_it_by_themselves(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(up.folder))
    posted = httpx.post(
        f"{up.line['ingest']}/v1/events",
        json={"type": "demo_requested", "email": "ann@firm.example"},
        headers={"Authorization": f"Bearer {up.line['keys']['secret']}"},
    )
    assert posted.status_code == 200

    def idle() -> dict[str, Any] | None:
        done = CliRunner().invoke(command_line, ["status", "--json"])
        assert done.exit_code == 0, done.output
        state: dict[str, Any] = json.loads(done.stdout)
        return state if state["idle"] else None

    state = wait_until(idle, 30)
    assert state["system"] == up.line["ingest"]
    assert (state["lag"], state["outbox"]) == (
        {"scorer": 0, "nurture": 0},
        {"scorer": 0, "nurture": 0},
    )
    assert (state["undecided"], state["spool"], state["dead_letters"]) == (0, 0, 0)
    assert state["stopped"] == {}
    checked = CliRunner().invoke(command_line, ["verify", "--json"])
    assert checked.exit_code == 0
    assert json.loads(checked.stdout) == {"leads": 1, "mismatches": []}
    assert f"system: {up.line['ingest']}, `ripeline up` (pid {up.process.pid})" in checked.stderr


def test_commands_obey_a_database_that_is_named(
    up: Up, settings: Settings, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a database means that one, whatever else runs here."""
    monkeypatch.setattr(tempfile, "tempdir", str(up.folder))
    monkeypatch.setenv("RIPELINE_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("RIPELINE_KAFKA_BOOTSTRAP", kafka)
    checked = CliRunner().invoke(command_line, ["verify", "--json"])
    assert json.loads(checked.stdout) == {"leads": 0, "mismatches": []}


def test_services_that_die_are_started_again_at_once_on_their_ports(up: Up) -> None:
    """O4."""
    killed = {service: up.line["pids"][service][0] for service in ("scorer", "ingest", "nurture")}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    lines = [up.next_line(4) for _ in killed]
    assert {line["service"] for line in lines} == set(killed)
    for line in lines:
        assert line["pid"] not in killed.values()
        up.line["pids"][line["service"]] = [line["pid"]]
    for service in killed:
        wait_until(partial(ready, up.line[service]), 30)


def test_a_database_that_dies_comes_back_with_its_data(up: Up) -> None:
    pid = up.line["pids"]["postgres"]
    os.kill(pid, signal.SIGKILL)
    line = up.next_line(20)
    assert line["service"] == "postgres"
    up.line["pids"]["postgres"] = line["pid"]
    key = {"Authorization": f"Bearer {up.line['keys']['query']}"}

    def known() -> bool:
        found = httpx.post(
            f"{up.line['scorer']}/v1/leads/lookup", json={"email": "ann@firm.example"}, headers=key
        )
        assert found.status_code in (200, 503)
        return found.status_code == 200

    wait_until(known, 20)
    assert all(lives(pid) for pid in up.children)


def test_after_sigterm_nothing_is_left(up: Up) -> None:
    """U1: no process, no temporary folder, no state file."""
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(40) == 0
    wait_until(lambda: not any(lives(pid) for pid in up.children), 5)
    assert list(up.folder.iterdir()) == []


@pytest.mark.parametrize("wish", [["--scorers", "2"], ["--nurtures", "3"]])
def test_replicas_are_refused_on_the_in_memory_broker(
    wish: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("RIPELINE_"):
            monkeypatch.delenv(name)
    done = CliRunner().invoke(command_line, ["up", *wish])
    assert done.exit_code == 2
    assert "RIPELINE_KAFKA_BOOTSTRAP" in done.stderr
    assert done.stdout == ""


def test_the_demo_counts_everything_and_reports_it(scratch: Path) -> None:
    """U1, O4: 60 days in a few seconds, with duplicates, disorder and touches; and it too leaves
    nothing.
    """
    folder = scratch / "demo"
    folder.mkdir()
    folder.chmod(0o755)
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "services.ops", "demo", "--seconds", "12", "--rate", "30", "--seed",
        "7", "--json"],
        cwd=ROOT, env=present.environment() | {"TMPDIR": str(folder)}, capture_output=True,
        text=True, timeout=150,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert time.monotonic() - began > 12
    report = json.loads(ran.stdout.splitlines()[-1])
    assert set(report) >= {
        "accepted", "counted", "duplicates_sent", "dead_letters", "leads", "transitions",
        "touches", "undecided_transitions",
        "event_to_touch_ms", "stage_accuracy", "stage_accuracy_by_points", "simulated",
    }  # fmt: skip
    assert report["accepted"] == report["counted"] > 100
    assert report["duplicates_sent"] > 0
    assert (report["dead_letters"], report["undecided_transitions"]) == (0, 0)
    assert report["leads"] > 10
    assert report["transitions"] >= report["touches"]["sent"] > 0
    assert report["touches"]["withheld"]
    assert (
        0
        < report["event_to_touch_ms"]["p50"]
        <= report["event_to_touch_ms"]["p95"]
        <= report["event_to_touch_ms"]["p99"]
    )
    assert 0 < report["stage_accuracy"] <= 1
    assert report["simulated"] is True
    assert list(folder.iterdir()) == []
