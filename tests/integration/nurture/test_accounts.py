"""Sales' work with one lead pauses the others of its company, where the playbook says so (N8)."""

import uuid
from collections.abc import Callable

import pytest

from services.shared.contracts.events import ChangeEvent
from tests.integration.nurture.test_nurture import Bench, bench, change, engaged, with_parts

__all__ = ["bench"]
ANN, BOB, EVE = (str(uuid.UUID(int=n)) for n in (1, 2, 3))


def pausing(bench: Bench) -> None:
    sales = bench.playbook.sales.model_copy(update={"pauses_account": True})
    bench.use(with_parts(bench.playbook, sales=sales))


async def state_of(bench: Bench, lead: str) -> list[tuple[str, str]]:
    return [(row.status, row.reason) for row in await bench.touches() if str(row.lead_id) == lead]


async def test_colleagues_wait_from_the_next_look_on_and_go_on_when_it_is_over(
    bench: Bench,
) -> None:
    """N8: what is due when sales accepts a colleague is held; a mailbox of anybody's is nobody's
    colleague.
    """
    pausing(bench)
    await bench.take(
        change(lead=BOB, email="bob@firm.example"), change(lead=EVE, email="eve@gmail.com")
    )
    await bench.take(
        engaged(1, lead=ANN, email="ann@firm.example", sales_status="accepted"),
        engaged(1, lead=str(uuid.UUID(int=4)), email="x@gmail.com", sales_status="opportunity"),
    )
    await bench.scheduler.send_batch()
    assert await state_of(bench, BOB) == [("due", "with_sales")]
    assert await state_of(bench, EVE) == [("sent", "")]
    await bench.take(engaged(2, lead=ANN, email="ann@firm.example", sales_status="lost"))
    bench.at((await bench.touches())[0].due_at)
    await bench.do("UPDATE nurture.touch SET due_at = decided_at WHERE status = 'due'")
    await bench.scheduler.send_batch()
    assert await state_of(bench, BOB) == [("sent", "")]


@pytest.mark.parametrize("order", [lambda events: events, reversed], ids=["forth", "back"])
async def test_the_state_of_a_company_does_not_depend_on_the_order(
    bench: Bench, order: Callable[[list[ChangeEvent]], list[ChangeEvent]]
) -> None:
    """Older news of a lead changes nothing, and who was merged away is no colleague."""
    pausing(bench)
    news = [
        engaged(1, lead=ANN, email="ann@firm.example", sales_status="accepted"),
        engaged(2, lead=ANN, email="ann@firm.example", sales_status="won"),
    ]
    await bench.take(*order(news))
    await bench.take(change(lead=BOB, email="bob@firm.example"))
    await bench.scheduler.send_batch()
    assert await state_of(bench, BOB) == [("sent", "")]


async def test_a_colleague_who_turns_out_to_be_the_lead_itself_is_none(bench: Bench) -> None:
    pausing(bench)
    await bench.take(
        engaged(1, lead=ANN, email="ann@firm.example", sales_status="accepted"),
        engaged(1, lead=EVE, email="eve@firm.example", sales_status=""),
    )
    await bench.take(engaged(3, lead=EVE, merged=(ANN,), email="eve@firm.example"))
    await bench.take(change(lead=EVE, email="eve@firm.example", version=4))
    await bench.scheduler.send_batch()
    assert await state_of(bench, EVE) == [("sent", "")]


async def test_without_the_playbooks_word_each_lead_stands_for_itself(bench: Bench) -> None:
    await bench.take(engaged(1, lead=ANN, email="ann@firm.example", sales_status="accepted"))
    await bench.take(change(lead=BOB, email="bob@firm.example"))
    await bench.scheduler.send_batch()
    assert await state_of(bench, BOB) == [("sent", "")]
