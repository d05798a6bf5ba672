"""The real servers of tests and benchmarks: Apache Kafka and PostgreSQL on loopback, to start and
to kill.
"""

import signal
import subprocess
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.ops.embedded.postgres import EmbeddedPostgres as Postgres
from services.ops.embedded.processes import tied
from tests.support.ports import free_port

__all__ = ["Kafka", "Postgres"]

SCRIPT = Path(__file__).parents[1] / "kafka" / "kafka"


class Kafka:
    """One KRaft node; `kill()` is a crash, and `start()` after it serves the same data on the same
    port.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.bootstrap = f"127.0.0.1:{port}"
        self.log = directory / "kafka.log"
        self._ports = str(port), str(free_port())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The broker's process id."""
        if self._process is None:
            raise RuntimeError("Kafka is not running: call start() first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the broker lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60.0) -> None:
        """Start, and return once it names itself in an answer; the very first time Maven fetches
        the jars.
        """
        if self.running:
            return
        subprocess.run([SCRIPT, "jars"], check=True, stdout=subprocess.DEVNULL)
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            command = tied([SCRIPT, "serve", self.directory, *self._ports])
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if time.monotonic() > deadline or not self.running:
                self.kill()
                raise RuntimeError(f"Kafka does not answer; the end of {self.log}:\n{self._tail()}")
            time.sleep(0.1)

    def stop(self, timeout: float = 30.0) -> None:
        """Shut down in order."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL, 10.0)

    def _end(self, number: signal.Signals, timeout: float) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout)
            self._process = None

    def _answers(self) -> bool:
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
