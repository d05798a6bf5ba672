"""Mails that were sent are not measured once their recipient has refused that (N16)."""

import uuid
from datetime import timedelta

import pytest

from services.ingest.measuring import Measuring
from services.shared.contracts.events import ConsentChanged, ConsentEvent, ConsentState, keyed_hash
from services.shared.db import open_engine
from services.shared.settings import Settings
from tests.integration.nurture.test_nurture import NOON, Bench, bench, change, engaged

__all__ = ["bench"]
HOUR = timedelta(hours=1)


def word(bench: Bench, state: str, hours: int, touch: str = "") -> ConsentEvent:
    address = "" if touch else keyed_hash(bench.pepper, "email:ann@firm.example")
    consent = ConsentChanged(
        address=address, channel="email", purpose="tracking", touch=touch, at=NOON + hours * HOUR,
        state=state, identifier="someone" if touch else "",
    )  # type: ignore[arg-type] # fmt: skip
    return ConsentEvent(id=uuid.uuid4().hex, time=consent.at, data=consent)


async def sent_to_ann(bench: Bench) -> str:
    await bench.take(change())
    assert await bench.scheduler.send_batch() == 1
    (touch,) = await bench.touches()
    return str(touch.id)


@pytest.mark.parametrize("by_touch", [True, False])
async def test_a_refusal_holds_for_mails_that_were_sent_until_it_is_taken_back(
    bench: Bench, by_touch: bool
) -> None:
    touch, measuring = await sent_to_ann(bench), Measuring(bench.engine)
    assert not await measuring.is_refused(touch)
    await bench.take(word(bench, "withdrawn", 1, touch if by_touch else ""))
    assert await measuring.is_refused(touch)
    await bench.take(word(bench, "given", 2))
    assert not await measuring.is_refused(touch)


async def test_a_refusal_that_the_scorer_knows_holds_too(bench: Bench) -> None:
    touch, measuring = await sent_to_ann(bench), Measuring(bench.engine)
    consents = {"web:tracking": ConsentState("withdrawn", NOON + HOUR, "said")}
    await bench.take(engaged(2, consents=consents))
    assert await measuring.is_refused(touch)
    assert not await measuring.is_refused("no touch of ours")


async def test_while_nobody_can_tell_nothing_is_measured(settings: Settings) -> None:
    away = settings.model_dump() | {"database_url": "postgresql://a@127.0.0.1:1/b"}
    engine = open_engine(Settings(**away))
    assert await Measuring(engine).is_refused(str(uuid.uuid4()))
    await engine.dispose()
