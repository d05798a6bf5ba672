"""Gates of sending through kills: what was overtaken gives way to one better item, and what is
stopped stays so in every process (N6, N11, N14).
"""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from services.ops.commands import overrides
from tests.integration.nurture.test_nurture import (
    BOTTLING,
    NOON,
    Bench,
    bench,
    change,
    engaged,
    with_parts,
)
from tests.integration.nurture.test_programs import STEPS, Killed

__all__ = ["bench"]
POINTS = [point for point in STEPS if point != "before_plan_commit"]


def dies_once(monkeypatch: pytest.MonkeyPatch, point: str) -> list[str]:
    """Has the next process that comes to the point die there; returns where one has."""
    deaths: list[str] = []

    def die(name: str) -> None:
        if name == point and not deaths:
            deaths.append(name)
            raise Killed

    for module in set(STEPS.values()):
        monkeypatch.setattr(f"{module}.fault_point", die)
    return deaths


async def another(bench: Bench) -> None:
    """Another process goes on with what one has left behind."""
    await bench.do("UPDATE nurture.touch SET sending_since = now() - interval '1 day'")
    await bench.make_scheduler().recover()
    for _ in range(3):
        await bench.make_scheduler().send_batch()


@pytest.mark.parametrize("point", POINTS)
async def test_an_overtaken_touch_goes_out_once_with_the_better_item(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """N11: the lead has found the item by itself; one touch answers the transition."""
    await bench.take(change())
    assert [row.content for row in await bench.touches()] == [BOTTLING]
    await bench.take(engaged(2, content=(BOTTLING,)))
    deaths = dies_once(monkeypatch, point)
    with suppress(Killed):
        await bench.make_scheduler().send_batch()
    await another(bench)
    assert deaths == [point]
    (touch,) = await bench.touches()
    assert touch.content not in ("", BOTTLING)
    assert touch.status == ("sent" if point == "before_claim_commit" else "unknown")
    assert len(bench.mails()) == (0 if point == "between_sending_and_wire" else 1)
    decided = [event for event in await bench.events() if event.type == "touch.decided.v1"]
    assert [event.data.content for event in decided] == [BOTTLING, touch.content]


@pytest.mark.parametrize("point", POINTS)
async def test_what_is_stopped_after_a_death_stays_so_in_every_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """N14."""
    by_webhook = [
        program.model_copy(update={"channel": "webhook"}) for program in bench.playbook.programs
    ]
    bench.use(with_parts(bench.playbook, programs=by_webhook))
    await bench.take(change())
    deaths = dies_once(monkeypatch, point)
    with suppress(Killed):
        await bench.make_scheduler().send_batch()
    assert deaths == [point]
    await overrides.stop_sending(bench.engine)
    before = len(bench.hook.got)
    for minutes in (0, 5, 60):
        bench.at(NOON + timedelta(minutes=minutes))
        await another(bench)
    assert len(bench.hook.got) == before
    assert [status for status, _ in await bench.outcome()] == ["due"]
    await overrides.resume_sending(bench.engine)
    await another(bench)
    assert [status for status, _ in await bench.outcome()] == ["sent"]
    ids = {headers["webhook-id"] for headers, _ in bench.hook.got}
    assert len(ids) == 1


async def test_a_brake_that_nobody_can_ask_for_holds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N14: right before the text the database is away: nothing has gone out, and all is due."""
    await bench.take(change())
    asked: list[Any] = []
    real = bench.delivery._check

    async def away() -> None:
        asked.append(1)
        if len(asked) == 2:  # the second one is asked after the recipient was named
            monkeypatch.setattr(bench.delivery, "_engine", _Away())
        try:
            await real()
        finally:
            monkeypatch.setattr(bench.delivery, "_engine", bench.engine)

    monkeypatch.setattr(bench.delivery, "_check", away)
    await bench.scheduler.send_batch()
    assert (await bench.outcome(), bench.mails()) == ([("due", "")], [])
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]
    assert [row.attempts for row in await bench.touches()] == [1]


class _Away:
    """An engine whose database is away."""

    def connect(self) -> None:
        raise ConnectionRefusedError
