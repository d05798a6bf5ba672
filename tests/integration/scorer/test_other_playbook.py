"""A changed playbook: everybody is folded anew, state of another hash is never shown or compared,
changes are said once.
"""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.verify import verify
from services.scorer.history import History
from services.scorer.model.profile import MOST_TRAITS
from services.scorer.processing import sweeper as sweeping
from services.scorer.processing.folding import refold_outdated
from services.scorer.processing.handler import Handler
from services.scorer.processing.sweeper import Sweeper
from services.scorer.queries.filters import LeadFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.contracts.events import Interaction
from services.shared.db import rows
from services.shared.playbook.sections import Playbook, PointGroup
from services.shared.settings import Settings
from tests.support import present
from tests.support.histories import DAY, Occurrence, records


def changed(playbook: Playbook) -> Playbook:
    """Another group of points, which changes the record's size, and a stage that publishes only
    when it is nearly sure.
    """
    body = playbook.model_dump()
    body["engagement"]["groups"]["extra"] = PointGroup(cap=5).model_dump()
    body["model"]["hysteresis"]["publish_at"] = 0.97
    return Playbook.model_validate(body)


async def test_a_changed_playbook_folds_everybody_anew_and_says_once_what_changed(
    engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> None:
    clock = present.CLOCK
    before, after = (
        Handler(Scoring.of(default_playbook, clock)),
        Handler(Scoring.of(changed(default_playbook), clock)),
    )
    recent = clock.now_us() - DAY
    said = [
        Occurrence(
            recent + n,
            Interaction(
                id=f"e{n}",
                type="demo_requested" if n % 2 else "page_viewed",
                email=f"p{n}@firm.example",
            ),
        )
        for n in range(40)
    ]
    async with engine.begin() as connection:
        await before.apply(connection, [before.decode(record) for record in records(said)])
    queries = LeadQueries(engine, after.scoring, b"pepper")
    listed = await queries.page(LeadFilter(product="default", limit=100))
    assert {lead.stage for lead in listed.leads} == {"decision", "unknown"}
    sweeper = Sweeper(engine, after, 0.1, lambda: None)
    while await sweeper.refold():
        pass
    assert await sweeper.refold() == 0
    async with engine.connect() as connection:
        causes = await rows(
            connection, "SELECT cause, count(*) AS n FROM scorer.announcement GROUP BY cause"
        )
        states = await Store(connection).states(lead.id for lead in listed.leads)
    assert {row.cause: row.n for row in causes} == {"event": 40, "model": 20}
    assert {state.fold_hash for mine in states.values() for state in mine.values()} == {
        after.scoring.playbook.fold_hash
    }
    checked = await verify(settings, lambda _: None)
    assert checked.leads == 40


async def test_a_trait_that_the_playbook_names_no_more_is_one_of_many(
    engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """The stored profile left nothing out, and yet is not what the events give."""
    body = default_playbook.model_dump()
    body["personas"][0] |= {"trait": "guild", "matches": "smith"}
    playbooks = Playbook.model_validate(body), default_playbook
    before, after = (Handler(Scoring.of(playbook, present.CLOCK)) for playbook in playbooks)
    traits = {f"t{n}": n for n in range(MOST_TRAITS)} | {"guild": "smiths"}
    (said,) = records([
        Occurrence(
            present.CLOCK.now_us() - DAY,
            Interaction(id="e", type="identified", user_id="u1", traits=traits),
        )
    ])  # fmt: skip
    async with engine.begin() as connection:
        await before.apply(connection, [before.decode(said)])
    sweeper = Sweeper(engine, after, 0.1, lambda: None)
    while await sweeper.refold():
        pass
    queries = LeadQueries(engine, after.scoring, b"pepper")
    (lead,) = (await queries.page(LeadFilter(product="default", limit=10))).leads
    assert len(lead.traits) == MOST_TRAITS
    assert lead.left_out == ["traits"]


async def test_states_of_a_product_that_is_gone_are_retired_in_portions(
    engine: AsyncEngine, default_playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They make no lead one of another playbook."""
    monkeypatch.setattr(sweeping, "RETIRED_AT_ONCE", 2)
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    recent = present.CLOCK.now_us() - DAY
    said = [
        Occurrence(recent, Interaction(id=f"e{n}", type="demo_requested", user_id=f"u{n}"))
        for n in range(5)
    ]
    async with engine.begin() as connection:
        await handler.apply(connection, [handler.decode(record) for record in records(said)])
        await connection.execute(text(
            "CREATE TEMPORARY TABLE gone ON COMMIT DROP AS SELECT * FROM scorer.lead_state"
        ))  # fmt: skip
        await connection.execute(text("UPDATE gone SET product = 'gone', fold_hash = 'old'"))
        await connection.execute(text("INSERT INTO scorer.lead_state SELECT * FROM gone"))
        await connection.execute(text("UPDATE scorer.lead SET publish_at = 0"))
    sweeper = Sweeper(engine, handler, 0.1, lambda: None)
    assert await sweeper.refold() == 0
    async with engine.connect() as connection:
        listed = await rows(connection, "SELECT product FROM scorer.lead_state WHERE listed")
        leads = await Store(connection).lock([row.id for row in await rows(
            connection, "SELECT id FROM scorer.lead")])  # fmt: skip
        for lead, states in (await Store(connection).states(leads)).items():
            leads[lead].states = states
        history = History(connection, handler.scoring.fold.declared)
        outdated = await refold_outdated(handler.scoring, history, [*leads.values()])
    assert {row.product for row in listed} == {"default"}
    assert len(leads) == 5
    assert outdated == set()


async def test_a_trait_that_the_playbook_begins_to_name_is_found_again(
    engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> None:
    """It had made way for hundreds of others; what is posted meanwhile changes nothing."""
    body = default_playbook.model_dump()
    body["personas"][0] |= {"trait": "guild", "matches": "smith"}
    playbooks = default_playbook, Playbook.model_validate(body)
    before, after = (Handler(Scoring.of(playbook, present.CLOCK)) for playbook in playbooks)
    traits = [{"guild": "smiths"}, {f"t{n}": n for n in range(300)}, {"t7": "seven"}]
    said = [
        Occurrence(
            present.CLOCK.now_us() - DAY + n,
            Interaction(id=f"e{n}", type="identified", user_id="u1", traits=some),
        )
        for n, some in enumerate(traits)
    ]
    async with engine.begin() as connection:
        await before.apply(connection, [before.decode(record) for record in records(said[:2])])
    queries = LeadQueries(engine, before.scoring, b"pepper")
    (lead,) = (await queries.page(LeadFilter(product="default", limit=10))).leads
    assert lead.left_out == ["traits"]
    assert len(lead.traits) == MOST_TRAITS
    assert "guild" not in lead.traits
    async with engine.begin() as connection:
        await after.apply(connection, [after.decode(record) for record in records(said[2:])])
    found = await LeadQueries(engine, after.scoring, b"pepper").lead(lead.id, "default")
    assert found.traits["guild"] == "smiths"
    assert found.traits["t7"] == "seven"
    assert len(found.traits) == MOST_TRAITS + 1
    sweeper = Sweeper(engine, after, 0.1, lambda: None)
    while await sweeper.refold():
        pass
    again = await LeadQueries(engine, after.scoring, b"pepper").lead(lead.id, "default")
    assert again.traits == found.traits
