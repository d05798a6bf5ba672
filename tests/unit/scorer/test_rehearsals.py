"""A rehearsal in a process of its own: what it brings, one at a time, and within its time."""

import asyncio
from pathlib import Path

from services.scorer.ui.rehearsal import Asked, Rehearsals
from services.shared.clock import Clock
from services.shared.settings import ROOT

PLAYBOOK = ROOT / "deploy" / "playbook"
TINY = Asked(3, 5)


async def ended(rehearsals: Rehearsals) -> None:
    async with asyncio.timeout(60):
        while rehearsals.running:
            await asyncio.sleep(0.02)


async def test_it_brings_figures_and_a_plot_and_a_second_one_does_not_begin_beside_it() -> None:
    rehearsals = Rehearsals(PLAYBOOK, Clock())
    rehearsals.start(TINY)
    rehearsals.start(Asked(500, 365))
    await ended(rehearsals)
    last = rehearsals.last
    assert last
    assert last.summary, last.problem
    assert (last.summary["leads"], last.summary["days"], rehearsals.share) == (3, 5, 1.0)
    assert last.plot.startswith("<svg")


async def test_it_says_what_is_wrong_and_ends_in_time(tmp_path: Path) -> None:
    missing = Rehearsals(tmp_path / "none", Clock())
    missing.start(TINY)
    await ended(missing)
    assert missing.last
    assert "there is no folder" in missing.last.problem
    slow = Rehearsals(PLAYBOOK, Clock(), limit_s=0.05)
    slow.start(TINY)
    await ended(slow)
    assert slow.last
    assert "choose fewer people" in slow.last.problem
