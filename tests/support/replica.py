"""One more process of a service of the running system, cut off from its servers at will."""

import asyncio
from pathlib import Path

import httpx

from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.running_system import PEPPER, System


class Replica:
    """One more process of a service of the running system, that reaches database and broker through
    proxies.
    """

    def __init__(self, system: System, service: str, folder: Path) -> None:
        user, _, place = system.database.partition("@")
        self.database, self.broker = Proxy(place.partition("/")[0]), Proxy(system.kafka)
        variables = {
            "RIPELINE_DATABASE_URL": f"{user}@{self.database.address}/{place.partition('/')[2]}",
            "RIPELINE_KAFKA_BOOTSTRAP": self.broker.address,
            "RIPELINE_PEPPER": PEPPER,
            "RIPELINE_SPOOL_DIR": str(folder / "spool"),
        }
        self.process = Process(f"services.{service}", variables, folder / f"{service}.log")

    async def readiness(self) -> int:
        """The status of /health/ready once the process listens."""
        async with httpx.AsyncClient() as http:
            for _ in range(150):
                try:
                    return (await http.get(f"{self.process.url}/health/ready")).status_code
                except httpx.TransportError:
                    assert self.process.deaths == 0, self.process.tail()
                    await asyncio.sleep(0.1)
        raise AssertionError(f"it does not listen:\n{self.process.tail()}")
