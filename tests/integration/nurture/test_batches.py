"""A batch costs as many statements as it has kinds of work, however many leads it is of."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text

from services.nurture.planner import Planner
from services.shared.contracts.events import ConsentState
from tests.integration.nurture.test_nurture import NOON, Bench, bench, change

__all__ = ["bench"]


@contextmanager
def counted(bench: Bench) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    found: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        found.append(statement)

    event.listen(bench.engine.sync_engine, "before_cursor_execute", note)
    yield found
    event.remove(bench.engine.sync_engine, "before_cursor_execute", note)


async def statements(bench: Bench, leads: int) -> list[list[str]]:
    """What a batch of so many new leads executes that say they are not to be measured, and then
    the planner for all of their programs.
    """
    consents = {
        "email:marketing": ConsentState("given", NOON, "said"),
        "email:tracking": ConsentState("withdrawn", NOON, "said"),
    }
    batch = [
        change(
            lead=str(uuid.uuid4()),
            email=f"{uuid.uuid4().hex}@firm.example", consents=consents,
        )
        for _ in range(leads)
    ]  # fmt: skip
    with counted(bench) as of_changes:
        async with bench.engine.begin() as connection:
            assert await bench.handler.apply(connection, batch) == leads
    async with bench.engine.begin() as connection:
        await connection.execute(text("UPDATE nurture.touch SET status = 'sent', sent_at = due_at"))
        await connection.execute(text("UPDATE nurture.enrolment SET next_at = entered_at"))
    planner = Planner(bench.settings, bench.engine, bench.rules, bench.clock, lambda: None)
    with counted(bench) as of_steps:
        assert await planner.plan() == leads
    return [of_changes, of_steps]


async def test_a_batch_of_many_leads_executes_what_one_of_a_few_does(bench: Bench) -> None:
    few = await statements(bench, 2)
    async with bench.engine.begin() as connection:
        await connection.execute(text("DELETE FROM nurture.enrolment"))
    assert await statements(bench, 30) == few
