"""What the embedded system decides before it starts anything, and how others find it."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.commands import current
from services.ops.embedded import state
from services.ops.embedded.spec import HOST, Replica, SystemSpec, allot_ports
from services.ops.embedded.state import RunningSystem, SystemFailed
from services.shared.errors import Reject
from services.shared.settings import PORTS


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_replicas_are_refused_on_the_in_memory_broker() -> None:
    with pytest.raises(SystemFailed, match="RIPELINE_KAFKA_BOOTSTRAP") as refusal:
        SystemSpec(scorers=3).check({})
    assert refusal.value.code == 2
    SystemSpec(scorers=3, nurtures=2).check({"RIPELINE_KAFKA_BOOTSTRAP": "127.0.0.1:9092"})


def test_a_spec_lists_its_processes_in_the_order_in_which_they_stop() -> None:
    assert SystemSpec(scorers=2, nurture=False).replicas() == [
        ("ingest", 0),
        ("scorer", 0),
        ("scorer", 1),
    ]


def test_a_taken_port_is_replaced_by_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        monkeypatch.setitem(PORTS, "ingest", taken.getsockname()[1])
        ports = allot_ports(SystemSpec(scorers=3).replicas())
        assert ports[Replica("ingest", 0)] != taken.getsockname()[1]
    assert len(set(ports.values())) == len(ports)


def test_a_running_system_is_found_by_its_user_alone() -> None:
    assert state.running_system() is None
    state.write_state(RunningSystem(up=os.getpid(), ingest="http://127.0.0.1:1"))
    system = state.running_system()
    assert system is not None
    assert system.ingest == "http://127.0.0.1:1"
    assert state.state_file().stat().st_mode & 0o077 == 0
    assert state.state_file().parent.stat().st_mode & 0o077 == 0


def test_what_a_dead_system_left_is_not_found() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    state.write_state(RunningSystem(up=gone.pid))
    assert state.running_system() is None


def test_a_folder_that_others_may_write_is_refused() -> None:
    state.state_file().parent.mkdir()
    state.state_file().parent.chmod(0o777)
    with pytest.raises(SystemFailed, match="not a folder of this user alone"):
        state.write_state(RunningSystem(up=1))


def running(up: int, port: int, folder: str, started: float) -> RunningSystem:
    return RunningSystem(
        up=up,
        ingest=f"http://127.0.0.1:{port}",
        scorer=f"http://127.0.0.1:{port + 1}",
        directory=folder,
        folder=f"/tmp/ripeline-run-{up}",
        started=started,
        environ={"RIPELINE_DATABASE_URL": f"postgresql://127.0.0.1:{port}/x"},
    )


@pytest.fixture
def two_systems(tmp_path: Path) -> Iterator[list[RunningSystem]]:
    """Two that run: this process and a child, the later one written first to its own file."""
    with subprocess.Popen(["sleep", "60"]) as other:
        first = running(os.getpid(), 8080, str(tmp_path / "one"), 1.0)
        second = running(other.pid, 9080, str(tmp_path / "two"), 2.0)
        state.write_state(first)
        state.write_state(second)
        yield [first, second]
        other.kill()
        current.address()


def test_a_second_system_hides_no_first(two_systems: list[RunningSystem]) -> None:
    first, second = two_systems
    assert state.running_systems() == [first, second]
    state.write_state(first)  # as after a restart of a part
    state.write_state(second)
    assert state.running_systems() == [first, second]
    state.remove_state(first)
    state.write_state(second)
    assert state.running_systems() == [second]
    state.remove_state(second)
    assert not state.state_file().parent.exists()


def test_a_system_is_named_by_its_folder_or_any_of_its_addresses(
    two_systems: list[RunningSystem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_systems
    for name in list(os.environ):
        if name.startswith("RIPELINE_"):
            monkeypatch.delenv(name)

    def chosen(named: str) -> RunningSystem | None:
        said: list[str] = []
        current.address(named, said.append)
        system = current.current_system()
        current.current_settings()
        assert system is None or system.address in said[0]
        return system

    for named in ("http://localhost:9081", "http://127.0.0.1:9080/", second.folder + "/mail"):
        assert chosen(named) == second
    assert chosen(first.directory) == first
    for named, sentence in (("", "2 systems run"), ("http://127.0.0.1:1", "no system")):
        with pytest.raises(Reject, match=sentence) as refusal:
            chosen(named)
        assert "--system http://127.0.0.1:9080" in str(refusal.value) or not named
        assert "http://127.0.0.1:8080" in str(refusal.value)
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "two")
    assert chosen("") == second
    monkeypatch.setenv("RIPELINE_DATABASE_URL", first.environ["RIPELINE_DATABASE_URL"])
    assert chosen("") == first
    monkeypatch.setenv("RIPELINE_DATABASE_URL", "postgresql://elsewhere/x")
    assert chosen("") is None
    assert chosen(second.directory) == second


@pytest.mark.parametrize(
    "line", [["--system", "X", "status"], ["status", "--system", "X"], ["status", "--system=X"]]
)
def test_the_system_may_be_named_before_and_behind_the_command(line: list[str]) -> None:
    done = CliRunner().invoke(command_line, line)
    assert done.exit_code == 1
    assert "no system of this user runs at X" in str(done.exception)
