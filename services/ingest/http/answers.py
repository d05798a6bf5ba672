"""What a sender is answered: what was accepted, what was refused and why."""

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from services.ingest.normalise import PlacedRemark, Receipt, Refusal
from services.ingest.source_stats import SourceStatistics
from services.ingest.sources.contract import (
    Accepted,
    ItemProblem,
    ItemWarning,
    RejectedItem,
    Reply,
    Source,
)
from services.ingest.sources.remarks import sentence
from services.shared.contracts.events import encode_bytes
from services.shared.errors import Reject
from services.shared.http.problems import MEDIA, problem_of
from services.shared.telemetry import ACCEPTED, REFUSED

MAX_WARNINGS = 100  # of an answer; all are counted


class NothingAccepted(msgspec.Struct, frozen=True):
    """The problem document of a request of which no item was acceptable."""

    type: str
    title: str
    where: str
    detail: str
    status: int
    rejected: list[RejectedItem]


def answered(receipt: Receipt, source: Source, statistics: SourceStatistics) -> Response:
    """200 with what was accepted and what was not; where nothing was, the source's
    `stop_status`. Counts both.

    A request that holds nothing for us is a success.
    """
    rejected = [_rejected(refusal) for refusal in receipt.refused]
    count(receipt, source, statistics)
    if receipt.ids or not rejected or source.stop_status == 200:
        return _success(source, receipt, rejected)
    return _nothing_accepted(receipt.refused, rejected, source.stop_status)


def count(receipt: Receipt, source: Source, statistics: SourceStatistics) -> None:
    """Counts what was accepted, what was refused, and the remarks."""
    for refusal in receipt.refused:
        REFUSED.labels(source.name, refusal.reject.kind).inc()
    last_refusal = receipt.refused[-1].reject.kind if receipt.refused else ""
    statistics.count(source.name, len(receipt.ids), len(receipt.refused), last_refusal)
    ACCEPTED.labels(source.name).inc(len(receipt.ids))
    if receipt.remarks:
        statistics.count_remarks(source.name, [placed.remark for placed in receipt.remarks])


def _success(source: Source, receipt: Receipt, rejected: list[RejectedItem]) -> Response:
    """Success, in the sender's own form where it has one."""
    answer = source.answer(receipt.ids, rejected)
    if isinstance(answer, Reply):
        return Response(answer.body, media_type=answer.media)
    if isinstance(answer, Accepted) and receipt.remarks:
        warnings = [_warning(placed) for placed in receipt.remarks[:MAX_WARNINGS]]
        answer = msgspec.structs.replace(answer, warnings=warnings)
    return Response(encode_bytes(answer), media_type="application/json")


def _nothing_accepted(
    refused: Sequence[Refusal], rejected: list[RejectedItem], status: int
) -> Response:
    """A problem document: the one refusal, or that each item has its own."""
    reject = refused[0].reject
    if len(refused) > 1:
        reject = Reject("no item was acceptable", remedy="see `rejected` for each item")
    whole = problem_of(reject, status)
    body = NothingAccepted(**msgspec.structs.asdict(whole), rejected=rejected)
    return Response(encode_bytes(body), status, media_type=MEDIA)


def _warning(placed: PlacedRemark) -> ItemWarning:
    kind, where, text, nearest = placed.remark
    return ItemWarning(placed.place, placed.id, kind, where, text, nearest, sentence(placed.remark))


def _rejected(refusal: Refusal) -> RejectedItem:
    problem = msgspec.convert(problem_of(refusal.reject), ItemProblem, from_attributes=True)
    return RejectedItem(refusal.place, refusal.id, problem)
