"""What the learned choice of programs has brought."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.rules.comparison import Comparison, Value, compare
from services.nurture.store.outcomes import OutcomeStore
from services.shared.playbook.sections import Playbook


async def comparisons(
    engine: AsyncEngine, playbook: Playbook, now: datetime
) -> dict[str, Comparison]:
    """By program, of those whose choice is learned."""
    async with engine.connect() as connection:
        store = OutcomeStore(connection)
        return {
            program.id: compare(await store.drawn(program.id, now))
            for program in playbook.programs
            if program.choice == "learned"
        }


def report(found: dict[str, Comparison]) -> list[dict[str, Any]]:
    """The comparisons as JSON has them."""
    return [
        {
            "program": program,
            "touches": one.learned.touches,
            "learned": _value(one.learned),
            "best_single_item": _value(one.best) if one.best else None,
            "items": [_value(item) for item in one.items],
            "beats_best_single_item": {"better": True, "not better": False}.get(one.verdict),
            "says": one.sentence,
        }
        for program, one in found.items()
    ]


def _value(value: Value) -> dict[str, Any]:
    named = {"content": value.content} if value.content else {}
    return named | {
        "progress": round(value.mean, 4),
        "standard_error": round(value.error, 4),
        "touches": value.touches,
    }
