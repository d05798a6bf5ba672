"""Imports through another machine's ingest: the file is read here, its interactions are posted
there, to `/v1/import`.
"""

import uuid
from types import TracebackType
from typing import Self, TypeVar, get_args

import aiohttp
import msgspec

from services.ingest.importing.facts import Facts
from services.ingest.importing.run import Batch, ImportReport, RefusedRow
from services.ingest.importing.table import Row
from services.ingest.sources.imports import PATH
from services.shared.errors import Kind, Reject, Retry

AWAY = frozenset({429, 502, 503, 504})
MAX_BYTES = 2 * 1024 * 1024  # of one request, far below what ingest takes


T = TypeVar("T")


class ReceivedProblem(msgspec.Struct):
    """A problem document, as far as it is read."""

    type: str = ""
    title: str = "refused"
    detail: str = ""


class ReceivedRejection(msgspec.Struct):
    """An item that was refused: its place among those posted."""

    index: int
    problem: ReceivedProblem


class ReceivedAnswer(msgspec.Struct):
    """What ingest answers, as far as it is read."""

    rejected: list[ReceivedRejection] = []


class RemoteIngest:
    """A session with an ingest; `url` is its address, `key` a key of scope `secret`, `file` the
    name of what is imported.
    """

    encodes = True

    def __init__(self, url: str, key: str, import_as: str, days: int, file: str = "") -> None:
        self._url, self._key = url.rstrip("/").removesuffix(PATH) + PATH, key
        self._params = {"as": import_as, "days": str(days), "import": uuid.uuid4().hex}
        self._params |= {"file": file} if file else {}

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
        """The facts of the installation there. Raises Retry, Reject."""
        return _decoded(await self._ask("GET"), Facts)

    async def end(self, report: ImportReport) -> None:
        """Says there how many rows there were. Raises Retry, Reject."""
        self._params |= {name: str(count) for name, count in report.counts().items()}
        await self._ask("POST", b"[]")

    async def put(self, batch: Batch) -> list[RefusedRow]:
        """Posts the batch in pieces that ingest takes; returns the rows that it refused."""
        refused: list[RefusedRow] = []
        rows: list[Row] = []
        items: list[bytes] = []
        size = 0
        for accepted in batch.accepted:
            if items and size + sum(map(len, accepted.items)) > MAX_BYTES:
                refused += await self._post(rows, items)
                rows, items, size = [], [], 0
            rows += [accepted.row] * len(accepted.items)
            items += accepted.items
            size += sum(map(len, accepted.items))
        return refused + (await self._post(rows, items) if items else [])

    async def _post(self, rows: list[Row], items: list[bytes]) -> list[RefusedRow]:
        raw = await self._ask("POST", b"[" + b",".join(items) + b"]")
        rejected = _decoded(raw, ReceivedAnswer).rejected
        return [RefusedRow(rows[item.index], _reject(item.problem)) for item in rejected]

    async def _ask(self, method: str, body: bytes | None = None) -> bytes:
        """The answer, also where every item was refused. Raises Retry, Reject."""
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
        if response.status != 200:
            _check_refusal(raw, response.status)
        return raw


def _decoded(raw: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.MsgspecError:
        raise _not_ingest("it answers 200") from None


def _check_refusal(raw: bytes, status: int) -> None:
    """Raises Reject for a refusal of the request as a whole; those of items are read by the
    caller.
    """
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        problem = msgspec.json.decode(raw, type=ReceivedProblem)
    except msgspec.MsgspecError:
        raise _not_ingest(f"it answers {status}") from None
    if "rejected" not in members:
        raise _reject(problem, "--to")


def _not_ingest(what: str) -> Reject:
    return Reject(what, where="--to", remedy="is this the address of Ripeline's ingest?")


def _reject(problem: ReceivedProblem, where: str = "") -> Reject:
    """A problem document as the refusal that it was."""
    named = problem.type.rpartition("#")[2]
    kind: Kind = next((known for known in get_args(Kind) if known == named), "invalid")
    return Reject(problem.title, where=where, remedy=problem.detail, kind=kind)
