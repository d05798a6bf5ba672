"""What an embedded system consists of: processes, their ports and their variables."""

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from services.ops.embedded.processes import free_port
from services.ops.embedded.state import SystemFailed
from services.shared.http.keys import new_key
from services.shared.setting_texts import as_meant
from services.shared.settings import PORTS

HOST = "127.0.0.1"


class Replica(NamedTuple):
    """One process of a service."""

    service: str
    number: int


@dataclass(frozen=True)
class SystemSpec:
    """What is to run: how many processes of each service, by which playbook, started by which
    command.
    """

    scorers: int = 1
    nurtures: int = 1
    nurture: bool = True
    playbook: Path | None = None
    command: str = "up"

    def check(self, environ: Mapping[str, str]) -> None:
        """Raises `SystemFailed` for what is not possible with these variables."""
        if self.scorers < 1 or self.nurtures < 1:
            raise SystemFailed(
                "at least one scorer and one nurture are needed; --no-nurture leaves nurture out", 2
            )
        if (self.scorers > 1 or self.nurtures > 1) and not environ.get("RIPELINE_KAFKA_BOOTSTRAP"):
            raise SystemFailed(
                "the in-memory broker serves one consumer a group, so replicas cannot share "
                "the work on it: "
                "set RIPELINE_KAFKA_BOOTSTRAP to an Apache Kafka, or leave --scorers and "
                "--nurtures at 1",
                2,
            )

    def replicas(self) -> list[Replica]:
        """Every process, in the order in which they are stopped."""
        counts = {
            "ingest": 1,
            "scorer": self.scorers,
            "nurture": self.nurtures if self.nurture else 0,
        }
        return [Replica(service, number) for service, n in counts.items() for number in range(n)]


def allot_ports(replicas: Sequence[Replica]) -> dict[Replica, int]:
    """A port for each process: the service's own where it is free, else any free one."""
    ports: dict[Replica, int] = {}
    for replica in replicas:
        wanted = PORTS[replica.service] if replica.number == 0 else 0
        port = wanted if wanted and _is_free(wanted) else free_port(HOST)
        while port in ports.values():
            port = free_port(HOST)
        ports[replica] = port
    return ports


def service_variables(
    folder: Path, ports: Mapping[Replica, int], spec: SystemSpec, overrides: Mapping[str, str]
) -> dict[str, str]:
    """Every RIPELINE_ variable of the services: `overrides`, then our own environment's, then
    defaults with new secrets.
    """
    defaults = {
        "RIPELINE_ENVIRONMENT": "production",
        "RIPELINE_HOST": HOST,
        "RIPELINE_PUBLIC_URL": f"http://{HOST}:{ports[Replica('ingest', 0)]}",
        "RIPELINE_SPOOL_DIR": str(folder / "spool"),
        "RIPELINE_PEPPER": secrets.token_urlsafe(32),
        "RIPELINE_MAIL_FROM": "Ripeline <nurture@ripeline.example>",
        "RIPELINE_KAFKA_SESSION_TIMEOUT_MS": "6000",
    }
    for service, name in (("scorer", "PAGE"), ("nurture", "NURTURE")):
        if port := ports.get(Replica(service, 0)):
            defaults[f"RIPELINE_{name}_URL"] = f"http://{HOST}:{port}"
    defaults |= {f"RIPELINE_{scope}_KEY": new_key() for scope in ("SECRET", "PUBLIC", "QUERY")}
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("RIPELINE_") and name != "RIPELINE_PORT"
    }
    given = as_meant(ours)
    variables = defaults | given | dict(overrides)
    if spec.playbook:
        variables["RIPELINE_PLAYBOOK"] = str(spec.playbook.resolve())
    return variables


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
