"""Hand-offs at the command line: the list, and answers."""

import uuid

from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs.answers import Details, HandoffAnswers
from services.scorer.handoffs.queries import HandoffQueries
from services.scorer.handoffs.records import Answer, Status
from services.scorer.handoffs.responses import HandoffResponse
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.errors import Reject
from services.shared.people.audit import command_line
from services.shared.playbook.loading import load
from services.shared.settings import Settings

AT_ONCE = 500
WORDS = ("accept", "reject", "disqualify", "return", "meeting", "not-reached", "note", "undo")


async def found(
    engine: AsyncEngine, settings: Settings, status: Status | str, owner: str
) -> list[HandoffResponse]:
    """All hand-offs of a status and an owner, '' for all of them."""
    queries = HandoffQueries(engine, settings.pepper.get_secret_value().encode())
    handoffs: list[HandoffResponse] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await queries.page(status, owner, AT_ONCE, cursor)
        handoffs += page.handoffs
        cursor = page.next
    return handoffs


async def answer(
    engine: AsyncEngine, settings: Settings, handoff: uuid.UUID, word: str, details: Details
) -> HandoffResponse:
    """Says one of WORDS to a hand-off. Raises Reject as the API does."""
    pepper = settings.pepper.get_secret_value().encode()
    scoring = Scoring.of(load(settings.playbook), Clock.parse(settings.clock), pepper)
    answers, actor = HandoffAnswers(engine, scoring, pepper), command_line()
    given: dict[str, Answer] = {
        "accept": "accept", "reject": "reject", "disqualify": "disqualify", "return": "return",
        "meeting": "meeting",
    }  # fmt: skip
    if word in given:
        return HandoffResponse.of(await answers.answer(handoff, given[word], details, actor))
    others = {"not-reached": answers.not_reached, "note": answers.note, "undo": answers.undo}
    if word not in others:
        raise Reject(f"no answer {word!r}", where="ANSWER", remedy=f"use one of {', '.join(WORDS)}")
    return HandoffResponse.of(await others[word](handoff, details, actor))
