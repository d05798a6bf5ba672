"""Lists of leads on a real database: every order and filter, page by page, is what sorting all
leads by hand gives.
"""

import itertools
import uuid
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer import store
from services.scorer.list_keys import SALES_RANKS, company_key
from services.scorer.queries import repository
from services.scorer.queries.filters import ORDERS, LeadFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.repository import LeadRepository
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import DAY
from services.shared.contracts.identity import Identifier, Kind
from services.shared.db import rows
from services.shared.playbook.sections import Playbook
from tests.bench import crowd
from tests.support import present

LEADS = 150
FILTERS: list[dict[str, Any]] = [
    {},
    {"min_likelihood": 0.0},
    {"min_likelihood": 0.1},
    {"min_fit": 50.0},
    {"min_engagement": 5.0},
    {"min_likelihood": 0.05, "min_fit": 40.0, "min_engagement": 1.0},
    {"min_engagement": 101.0},
]
KEYS: list[dict[str, Any]] = [
    {"sales_status": "any"},
    {"sales_status": "none", "min_fit": 40.0},
    {"sales_status": "won"},
    {"sales_status": "disqualified", "min_likelihood": 0.1},
    {"sales_status": "refunded"},
    {"company": "FIRM  3"},
    {"company": "firm 3", "sales_status": "any", "min_likelihood": 0.0},
    {"company": "nobody"},
    {"updated_since": present.CLOCK.now_us() - 20 * DAY},
    {"updated_since": present.CLOCK.now_us() - 20 * DAY, "sales_status": "any"},
]


@pytest.fixture
async def queries(engine: AsyncEngine, default_playbook: Playbook) -> LeadQueries:
    """Queries over leads of all stages, some of them settled, excluded or of an older playbook."""
    scoring = Scoring.of(default_playbook, present.CLOCK, b"pepper")
    await crowd.fill(engine, scoring, LEADS, 0)
    async with engine.begin() as connection:
        for change in (
            "likelihood = NULL WHERE get_byte(uuid_send(lead_id), 0) < 30",
            "listed = false WHERE get_byte(uuid_send(lead_id), 1) < 20",
            "stage = 'once a stage' WHERE get_byte(uuid_send(lead_id), 2) < 20",
            "engagement = round(engagement) WHERE true",
            f"company_key = {company_key('Firm 3')} WHERE get_byte(uuid_send(lead_id), 3) < 40",
        ):
            await connection.execute(text(f"UPDATE scorer.lead_state SET {change}"))
    return LeadQueries(engine, scoring, b"pepper")


@pytest.mark.parametrize("few", [repository.FEW, 3, 0])
async def test_every_order_and_filter_is_what_sorting_by_hand_gives(
    few: int, engine: AsyncEngine, queries: LeadQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether all, some or none of the stages have so few that pass that all of them are read."""
    monkeypatch.setattr(repository, "FEW", few)
    async with engine.connect() as connection:
        stored = await rows(connection, "SELECT * FROM scorer.lead_state WHERE listed")
    assert len({row.stage for row in stored}) >= 5
    lists = [
        *itertools.product(ORDERS, ("", "decision", "never"), FILTERS),
        *itertools.product(ORDERS[2:], ("", "customer"), KEYS),
    ]
    for order, stage, filters in lists:
        asked = LeadFilter("default", stage, order=order, limit=20, **filters)
        assert await _walk(queries, asked) == _by_hand(stored, asked), asked


async def test_a_list_has_no_end_between_two_leads_of_one_value(
    engine: AsyncEngine, queries: LeadQueries
) -> None:
    """The id decides among equals, and a cursor stands between them."""
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE scorer.lead_state SET fit = 1, likelihood = NULL"))
        stored = await rows(connection, "SELECT * FROM scorer.lead_state WHERE listed")
    for order in ORDERS:
        asked = LeadFilter("default", order=order, limit=7)
        assert await _walk(queries, asked) == _by_hand(stored, asked)


async def test_where_nearly_nothing_passes_no_order_is_scanned(
    engine: AsyncEngine, queries: LeadQueries
) -> None:
    """The index of the filter that lets the fewest pass is read instead."""
    asked = LeadFilter("default", order="last_event_at", min_fit=1.0, min_engagement=40.0)
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE scorer.lead_state"))
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        narrowest = await LeadRepository(connection).narrowest(asked)
        assert narrowest is not None
        assert narrowest.name == "min_engagement"
        statement, values = repository.list_of(asked, None, narrowest)
        explained = await rows(connection, f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", **values)
    plan = [row[0] for row in explained]
    (at,) = [n for n, line in enumerate(plan) if f"> {repository.FEW}" in line]
    assert "on lead_state" in plan[at + 1]
    assert "never executed" in plan[at + 1]


async def test_of_a_lead_with_very_many_identifiers_the_first_of_each_kind_are_shown(
    engine: AsyncEngine, queries: LeadQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of our touches last; whether few or many are read at first."""
    leads = [uuid.UUID(int=n) for n in (1, 2)]
    names = {
        leads[0]: [
            *(
                Identifier(Kind.EXTERNAL, f"{n}", system)
                for n in range(3)
                for system in ("z", "ripeline.x")
            ),
            *(Identifier(Kind.EMAIL, f"{n}@firm.example") for n in range(5)),
        ],
        leads[1]: [
            Identifier(Kind.USER, "ada"),
            Identifier(Kind.ANONYMOUS, "ä"),
            Identifier(Kind.ANONYMOUS, "z"),
        ],
    }
    async with engine.begin() as connection:
        for lead, identifiers in names.items():
            for each in identifiers:
                await connection.execute(
                    text(
                        "INSERT INTO scorer.identifier (kind, value, lead_id) VALUES (:k, :v, :l)"
                    ),
                    {"k": int(each.kind), "v": each.text, "l": lead},
                )
    for usual, most, external, emails in ((16, 1_001, 6, 5), (16, 2, 2, 2), (1, 4, 4, 4)):
        monkeypatch.setattr(store, "USUAL", usual)
        monkeypatch.setattr(store, "MOST_OF_A_KIND", most)
        async with engine.connect() as connection:
            found = await Store(connection).identifiers(leads)
        assert found[leads[1]] == names[leads[1]][:1] + names[leads[1]][:0:-1]
        shown = found[leads[0]]
        assert shown == sorted(shown, key=store.STRONGEST_FIRST)
        assert [each.value for each in shown if each.kind is Kind.EMAIL] == [
            f"{n}@firm.example" for n in range(emails)
        ]
        systems = [each.system for each in shown if each.kind is Kind.EXTERNAL]
        assert len(systems) == external
        assert systems.count("z") == min(3, external)


async def _walk(queries: LeadQueries, asked: LeadFilter) -> list[uuid.UUID]:
    """The leads of all pages of a list."""
    found: list[uuid.UUID] = []
    while True:
        page = await queries.page(asked)
        assert not page.failed
        found += [lead.id for lead in page.leads]
        if page.next is None:
            return found
        asked = msgspec.structs.replace(asked, cursor=page.next)


def _ranks(asked: LeadFilter) -> set[int]:
    """The ranks of sales' statuses that a list shows."""
    every = {0, *SALES_RANKS.values()}
    if asked.sales_status == "":
        return every - {SALES_RANKS[status] for status in asked.leaves_out}
    if asked.sales_status == "any":
        return every
    return {0 if asked.sales_status == "none" else SALES_RANKS[asked.sales_status]}


def _by_hand(stored: list[Any], asked: LeadFilter) -> list[uuid.UUID]:
    def place(row: Any) -> tuple[Any, uuid.UUID]:
        value = getattr(row, asked.order)
        return (-1 if value is None else value), row.lead_id

    least = {
        "likelihood": asked.min_likelihood,
        "fit": asked.min_fit,
        "engagement": asked.min_engagement,
    }
    listed = [
        row
        for row in stored
        if asked.stage in ("", row.stage)
        and row.sales_rank in _ranks(asked)
        and (not asked.company or row.company_key == company_key(asked.company))
        and row.as_of >= (asked.updated_since or 0)
        and all(
            wanted is None or (getattr(row, name) is not None and getattr(row, name) >= wanted)
            for name, wanted in least.items()
        )
    ]
    return [row.lead_id for row in sorted(listed, key=place, reverse=True)]
