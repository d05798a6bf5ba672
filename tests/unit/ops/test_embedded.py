"""What the embedded system decides before it starts anything, and how others find it."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from services.ops.embedded import state
from services.ops.embedded.spec import HOST, Replica, SystemSpec, allot_ports
from services.ops.embedded.state import RunningSystem, SystemFailed
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
