"""Learning from the stored events: what wins comes into use, what does not says why, and back."""

import asyncio

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands import models
from services.ops.commands.verify import verify
from services.ops.learning import question
from services.scorer import archive as reading
from services.scorer import checking
from services.scorer.model.fold import Fold
from services.scorer.models import COLD_START, Models, ModelWatch, current, written
from services.scorer.processing.handler import Handler
from services.scorer.processing.sweeper import Sweeper
from services.scorer.queries.filters import LeadFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.model import ModelQueries
from services.scorer.scoring import Scoring
from services.shared.contracts.events import Interaction
from services.shared.errors import Reject, Restart
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present, simulated
from tests.support.histories import BASE, DAY, Occurrence, records

DAYS = 500


def quiet(_: str, __: float) -> None:
    """Shows nothing."""


def history(playbook: Playbook, count: int) -> list[Occurrence]:
    """An archive that ends today, of a company whose leads are unlike the cold start's."""
    rng = np.random.default_rng(3)
    process = simulated.unlike(playbook.model, rng, spread=0.8)
    found = simulated.archive(process, count, rng, until_days=DAYS, title=True)
    shift = present.CLOCK.now_us() - DAY - BASE - DAYS * DAY
    return [
        Occurrence(each.at + shift, each.data) for each in simulated.occurrences(playbook, found)
    ]


async def store(engine: AsyncEngine, playbook: Playbook, said: list[Occurrence]) -> Handler:
    handler = Handler(Scoring.of(playbook, present.CLOCK))
    decoded = [handler.decode(record) for record in records(said)]
    for start in range(0, len(decoded), 2_000):
        async with engine.begin() as connection:
            await handler.apply(connection, decoded[start : start + 2_000])
    return handler


async def learn(settings: Settings, *, use: bool = True) -> models.Learned:
    return await models.learn_from_archive(
        settings, use=use, seed=0, with_curve=False, progress=quiet
    )


@pytest.fixture
async def archive(engine: AsyncEngine, default_playbook: Playbook) -> list[Occurrence]:
    said = history(default_playbook, 700)
    await store(engine, default_playbook, said)
    return said


async def test_a_model_that_wins_on_later_data_comes_into_use_and_goes_back(
    engine: AsyncEngine,
    settings: Settings,
    default_playbook: Playbook,
    archive: list[Occurrence],
) -> None:
    """Everybody is folded again by it, the numbers are those of the learned model, and learning
    again from the same events gives the same file (S7).
    """
    done = await learn(settings)
    assert done.replaced, done.why
    assert done.running == COLD_START
    again = await learn(settings)
    assert not again.replaced
    assert again.model
    assert done.model
    assert written(again.model) == written(done.model)
    in_use = await current(engine, default_playbook)
    assert in_use.version == done.version
    handler = Handler(Scoring.of(in_use.playbook, present.CLOCK))
    sweeper = Sweeper(engine, handler, 0.1, lambda: None)
    while await sweeper.refold():
        pass
    queries = LeadQueries(engine, handler.scoring, b"pepper")
    listed = await queries.page(LeadFilter(product="default", limit=20))
    assert listed.leads
    for lead in listed.leads:
        assert lead.calibrated
        ledger = await queries.explain(lead.id, "default", lead.as_of)
        assert ledger.likelihood == pytest.approx(lead.likelihood, abs=1e-9)
    checked = await verify(settings, lambda _: None)
    assert not checked.mismatches
    assert await models.use(settings, COLD_START) == done.version
    assert (await current(engine, default_playbook)).playbook is default_playbook
    shown = await models.shown(settings, done.version)
    assert not shown["in_use"]
    assert [each["version"] for each in shown["history"]] == [done.version, COLD_START]
    changed = await models.difference(settings, COLD_START, done.version)
    assert any(each.path.startswith("rate.visit") for each in changed)


async def test_matured_outcomes_are_compared_and_lists_are_forecast(
    engine: AsyncEngine,
    settings: Settings,
    default_playbook: Playbook,
    archive: list[Occurrence],
) -> None:
    """The check, what the API says of it, the status, and expected outcomes of a list (S7, S9)."""
    queries = ModelQueries(engine, Scoring.of(default_playbook, present.CLOCK))
    before = await queries.model()
    assert (before.version, before.check, before.checked_at) == (COLD_START, None, None)
    found = await checking.check(settings)
    assert found
    assert found["matured"] > 1_000
    assert found["all"]["auc"] > 0.6
    assert {month["month"][:2] for month in found["months"]} == {"20"}
    assert found["recalibration"] is None
    said = await queries.model()
    assert said.checked_at
    assert said.check
    assert said.check["outcomes"] == found["outcomes"]
    leads = LeadQueries(engine, Scoring.of(default_playbook, present.CLOCK), b"pepper")
    page = await leads.page(LeadFilter(product="default", limit=1, order="last_event_at"))
    alike = (await leads.in_full(page.leads[0].id, "default")).summary.alike
    assert alike
    assert 30 <= alike.leads <= 700
    assert alike.outcomes <= alike.leads
    everybody = await queries.forecast(LeadFilter(product="default"))
    assert 0 <= everybody.low < everybody.expected < everybody.high <= everybody.leads
    assert len(everybody.past) >= 3
    assert all(each.low <= each.expected <= each.high for each in everybody.past)
    decided = await queries.forecast(LeadFilter(product="default", stage="decision"))
    rest = [
        (await queries.forecast(LeadFilter(product="default", stage=stage))).expected
        for stage in ("unknown", "status_quo", "awareness", "consideration", "customer")
    ]
    assert decided.expected + sum(rest) == pytest.approx(everybody.expected)
    asked = LeadFilter(product="default", min_likelihood=0.99, company="nobody")
    nobody = await queries.forecast(asked)
    assert (nobody.leads, nobody.expected, nobody.high) == (0, 0.0, 0.0)
    again = await checking.check(settings)
    assert again == found


async def test_the_archive_says_how_much_content_predicts(
    settings: Settings, archive: list[Occurrence]
) -> None:
    """By the families of the model's marks and of what is known of the persons (S8)."""
    read = await models.read_archive(settings, quiet)
    found = question.answer(question.of_archive(*read), quiet)
    assert found["grouped_by"] == "account"
    assert found["groups"] == found["leads"] > 500
    assert set(found["counted_as"]) == {
        "content", "pages", "mail", "breadth", "seniority", "replies", "meetings", "requests",
        "pace", "other acts",
    }  # fmt: skip
    assert "title" in found["counted_as"]["seniority"]
    assert found["both"]["intervals"]["nats"][0] > 0
    assert found["both"]["nats"] >= found["content"]["nats"]


async def test_of_a_large_archive_a_part_of_the_leads_is_taken(
    engine: AsyncEngine, default_playbook: Playbook, archive: list[Occurrence]
) -> None:
    """By a hash of their ids, so it is the same whenever it is read; memory stays bounded."""
    fold, now = Fold(default_playbook), present.CLOCK.now_us()
    async with engine.connect() as connection:
        whole = await reading.read(connection, fold, now)
    async with engine.connect() as connection:
        part, again = [
            await reading.read(connection, fold, now, most_steps=1_500) for _ in range(2)
        ]
    assert whole.share == 1
    assert whole.events == part.events == len(archive)
    assert sum(sum(days.values()) for days in whole.sources.values()) == len(archive)
    assert 0 < sum(len(each.at) for each in part.found) <= 1_500
    assert part.share in (0.5, 0.25, 0.125, 0.0625)
    assert [each.lead for each in part.found] == [each.lead for each in again.found]
    assert {each.lead for each in part.found} < {each.lead for each in whole.found}


async def test_people_who_are_no_leads_are_not_learned_from(
    engine: AsyncEngine, default_playbook: Playbook
) -> None:
    domain = next(rule.domains[0] for rule in default_playbook.exclusions if rule.domains)
    at = present.CLOCK.now_us() - DAY
    said = [
        Occurrence(at + n, Interaction(id=f"e{n}", type="pricing_viewed", email=f"p{n}@{where}"))
        for n, where in enumerate(["firm.example", domain])
    ]
    await store(engine, default_playbook, said)
    async with engine.connect() as connection:
        found = await reading.read(connection, Fold(default_playbook), present.CLOCK.now_us())
    assert found.leads == 2
    assert len(found.found) == 1


async def test_a_young_archive_keeps_the_running_model_and_says_why(
    engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> None:
    said = history(default_playbook, 12)
    await store(engine, default_playbook, said)
    done = await learn(settings)
    assert not done.replaced
    assert done.version == ""
    assert done.why == (
        "12 leads have done anything that a model learns from, and at least 30 are needed"
    )


async def test_an_empty_archive_says_so(settings: Settings) -> None:
    done = await learn(settings)
    assert not done.replaced
    assert done.why.startswith("0 leads have done anything")


async def test_what_is_no_version_or_does_not_fit_is_refused_with_what_there_is(
    engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> None:
    with pytest.raises(Reject, match="known are cold-start"):
        await models.use(settings, "cold-stat")
    other = default_playbook.model.model_copy(update={"outcome": "trial_began"})
    with pytest.raises(Reject, match="it predicts trial_began"):
        await models.use(settings, "other", other)
    assert (await current(engine, default_playbook)).version == COLD_START


async def test_a_scorer_ends_to_be_built_again_when_another_model_is_in_use(
    engine: AsyncEngine,
) -> None:
    """What folds waits until the version is confirmed."""
    began = asyncio.Event()

    async def fold() -> None:
        began.set()

    watch = ModelWatch(engine, COLD_START)
    running = asyncio.create_task(watch.run(lambda: None, lambda: None))
    await asyncio.wait_for(watch.after(fold()), 10)
    assert began.is_set()
    async with engine.begin() as connection:
        await Models(connection).use("another")
    with pytest.raises(Restart):
        await asyncio.wait_for(running, 10)
