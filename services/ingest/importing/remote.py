"""Imports through another machine's ingest: the file is read here, its interactions are posted to
`/v1/import`.
"""

from types import TracebackType
from typing import Any, Self, get_args

import aiohttp
import msgspec

from services.ingest.importing.facts import Facts
from services.ingest.importing.run import Batch
from services.ingest.importing.table import Row
from services.ingest.sources.imports import PATH
from services.shared.errors import Kind, Reject, Retry

AWAY = frozenset({429, 502, 503, 504})
MAX_BYTES = 2 * 1024 * 1024  # of one request, far below what ingest takes


class Distant:
    """A session with an ingest; `url` is its address, `key` a key of scope `secret`."""

    encodes = True

    def __init__(self, url: str, key: str, said: str, days: int) -> None:
        self._url, self._key = url.rstrip("/").removesuffix(PATH) + PATH, key
        self._params = {"as": said, "days": str(days)}

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._key}"}
        self._http = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(60))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def facts(self) -> Facts:
        """What the installation there says of itself. Raises Retry, Reject."""
        return msgspec.convert(await self._ask("GET"), Facts)

    async def put(self, batch: Batch) -> list[tuple[Row, Reject]]:
        """Posts the batch in pieces that ingest takes; returns the rows that it refused."""
        refused: list[tuple[Row, Reject]] = []
        rows: list[Row] = []
        items: list[bytes] = []
        size = 0
        for taken in batch.taken:
            if items and size + sum(map(len, taken.items)) > MAX_BYTES:
                refused += await self._post(rows, items)
                rows, items, size = [], [], 0
            rows += [taken.row] * len(taken.items)
            items += taken.items
            size += sum(map(len, taken.items))
        return refused + (await self._post(rows, items) if items else [])

    async def _post(self, rows: list[Row], items: list[bytes]) -> list[tuple[Row, Reject]]:
        answer = await self._ask("POST", b"[" + b",".join(items) + b"]")
        return [(rows[one["index"]], _reject(one["problem"])) for one in answer.get("rejected", ())]

    async def _ask(self, method: str, body: bytes | None = None) -> dict[str, Any]:
        """The answer's JSON, also where every item was refused."""
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            params = self._params if body else None
            async with self._http.request(
                method, self._url, data=body, headers=headers, params=params
            ) as response:
                raw = await response.read()
                if response.status in AWAY:
                    raise Retry(f"{self._url} answers {response.status}")
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise Retry(f"{self._url} does not answer: {type(error).__name__}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise Reject(
                f"no such address: {type(error).__name__}",
                where="--to",
                remedy="write it as https://host",
            ) from error
        try:
            answer: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.MsgspecError:
            answer = {
                "title": f"it answers {response.status}",
                "detail": "is this the address of Ripeline's ingest?",
            }
        if response.status != 200 and "rejected" not in answer:
            raise _reject(answer, "--to")
        return answer


def _reject(problem: dict[str, Any], where: str = "") -> Reject:
    """A problem document as the refusal that it was."""
    kind = str(problem.get("type", "")).rpartition("#")[2]
    return Reject(
        str(problem.get("title", "refused")), where=where, remedy=str(problem.get("detail", "")),
        kind=next((known for known in get_args(Kind) if known == kind), "invalid"),
    )  # fmt: skip
