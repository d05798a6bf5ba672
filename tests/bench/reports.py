"""P15: the reports over 1,000,000 touches of 250,000 leads, on a database of its own."""

import time

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.queries.reports import REPORTS, TITLES, Asked, ReportQueries, Window
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine
from tests.bench.measure import Line, Outcome
from tests.bench.world import World

TOUCHES, LEADS, OUTCOMES = 1_000_000, 250_000, 12_000
GOAL_S = 2.0
ROUNDS = 3
STAGES = "ARRAY['status_quo', 'awareness', 'consideration', 'decision']"
FILL = f"""
INSERT INTO scorer.lead (id, profile, account, draw)
    SELECT md5('l' || n)::uuid, '', n / 3, (hashint8extended(n / 3, 7) & 1048575) / 1048576.0
    FROM generate_series(1, {{leads}}) n;
INSERT INTO scorer.lead_state (lead_id, product, fold_hash, record, pending, last_at, last_uid,
        stage, likelihood, fit, engagement, qualified, listed, last_event_at, as_of)
    SELECT md5('l' || n)::uuid, 'default', '', '', '', 0, '', ({STAGES})[1 + n % 4], 0.1, n % 100,
        50, n % 3 = 0, true, 1700000000000000 + n, 0 FROM generate_series(1, {{leads}}) n;
INSERT INTO scorer.announcement (id, lead_id, product, seq, from_stage, stage, cause, cause_at,
        likelihood, fold_hash, announced_at, previous_at)
    SELECT md5('a' || n)::uuid, md5('l' || (1 + n % {{leads}}))::uuid, 'default',
        1 + n / {{leads}}, CASE WHEN n < {{leads}} THEN 'unknown' ELSE 'status_quo' END,
        ({STAGES})[1 + n / {{leads}}], 'event', now() - n % 400 * interval '1 day', 0.05, '',
        now() - n % 400 * interval '1 day',
        CASE WHEN n >= {{leads}} THEN now() - n % 500 * interval '1 day' END
    FROM generate_series(0, 2 * {{leads}} - 1) n;
INSERT INTO scorer.touch_result
    SELECT md5('t' || n)::uuid, md5('l' || (1 + n % {{leads}}))::uuid,
        md5('a' || n % {{leads}})::uuid, 'default', 'program-' || n % 9, ({STAGES})[1 + n % 4],
        'item-' || n % 150, CASE WHEN n % 10 = 0 THEN 'webhook' ELSE 'email' END,
        CASE WHEN n % 10 = 3 THEN 'holdout' WHEN n % 4 = 1 THEN 'no_consent' ELSE '' END, false,
        d, CASE WHEN n % 10 <> 3 AND n % 4 <> 1 THEN d END,
        CASE WHEN n % 7 < 5 THEN d + interval '1 minute' END,
        CASE WHEN n % 90 = 0 THEN d + interval '1 hour' END,
        CASE WHEN n % 8 = 0 THEN d + interval '1 day' END,
        CASE WHEN n % 70 = 0 THEN d + interval '2 days' END,
        CASE WHEN n % 11 = 0 THEN d + interval '3 days' END,
        CASE WHEN n % 200 = 0 THEN d + interval '1 day' END
    FROM (SELECT n, now() - n % 400 * interval '1 day' AS d
        FROM generate_series(1, {{touches}}) n) s;
INSERT INTO scorer.event (uid, lead_id, anchor, weaker, occurred_at, received_at, source, digest,
        body)
    SELECT md5('e' || n)::uuid, md5('l' || (1 + n % {{leads}}))::uuid, 0, ARRAY[]::bigint[],
        (extract(epoch FROM now()) * 1000000)::bigint - n % 300 * 86400000000, now(), 'crm', '',
        '{{{{"id":"' || n || '","type":"opportunity_opened"}}}}'
    FROM generate_series(1, {{outcomes}}) n;
INSERT INTO scorer.entry SELECT DISTINCT ON (lead_id) lead_id, decided_at, announcement_id
    FROM scorer.touch_result ORDER BY lead_id, decided_at;
INSERT INTO scorer.milestone SELECT uid, 'opportunity_opened' FROM scorer.event
"""


async def million(world: World) -> Outcome:
    """The slowest of three askings of each report, and of the leads behind one number."""
    engine = open_engine(await world.database("reports"))
    scale = 10 if world.quick else 1
    try:
        async with engine.begin() as connection:
            await fill(connection, TOUCHES // scale, LEADS // scale, OUTCOMES // scale)
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.execute(text("VACUUM ANALYZE"))
        queries = ReportQueries(engine, Scoring.of(world.playbook, Clock()))
        seconds = dict.fromkeys((*REPORTS, "leads"), 0.0)
        for _ in range(ROUNDS):
            for name in REPORTS:
                began = time.perf_counter()
                await queries.report(name)
                seconds[name] = max(seconds[name], time.perf_counter() - began)
            began = time.perf_counter()
            number = Asked("touches", "clicked", {"program": "program-3", "stage": "awareness"})
            await queries.leads("progression", number, Window(), 50)
            seconds["leads"] = max(seconds["leads"], time.perf_counter() - began)
    finally:
        await engine.dispose()
    titles = {"leads": "the leads behind a number"}
    titles.update((str(name), title) for name, title in TITLES.items())
    lines = [
        Line("P15", f"{titles[name]}, {TOUCHES // scale:,} touches", f"{taken:.2f} s", "",
             f"{taken:.2f} s", f"≤ {GOAL_S:.0f} s", taken <= GOAL_S)
        for name, taken in seconds.items()
    ]  # fmt: skip
    return Outcome({name: round(taken, 2) for name, taken in seconds.items()}, lines)


async def fill(connection: AsyncConnection, touches: int, leads: int, outcomes: int) -> None:
    """Fills the tables that reports read."""
    statements = FILL.format(touches=touches, leads=leads, outcomes=outcomes)
    for statement in statements.split(";\n"):
        await connection.exec_driver_sql(statement)
