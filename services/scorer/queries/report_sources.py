"""What reports count: SQL sources of rows, the keys that tell them apart, and the condition of each
figure. A figure's number and the leads behind it come from one condition, so they agree.
"""

from typing import NamedTuple

from services.scorer.reports.tables import Column
from services.shared.playbook.sections import Playbook

# the first outcome of each lead since it could have been nurtured for the first time
OUTCOME_AFTER_ENTRY = """SELECT e.lead_id,
        min(to_timestamp(0) + e.occurred_at * interval '1 microsecond') AS at
    FROM scorer.milestone m JOIN scorer.event e USING (uid)
    JOIN scorer.entry n ON n.lead_id = e.lead_id WHERE m.type = :outcome
    AND to_timestamp(0) + e.occurred_at * interval '1 microsecond' > n.entered_at
    GROUP BY e.lead_id"""
AGE = "interval '14 days'"


class Source(NamedTuple):
    """Rows with `at` and the keys, and where there are figures `id` and `lead_id`; `sql` and
    conditions may use :now, and :stages (the playbook's in order) and :outcome. `numbers` are
    further aggregates, which open no leads.
    """

    name: str
    title: str
    sql: str
    keys: tuple[Column, ...]
    figures: dict[str, tuple[str, str]]  # title and condition
    numbers: dict[str, tuple[str, str]] = {}  # title and aggregate


def key(name: str, title: str = "") -> Column:
    """A column that tells rows apart."""
    return Column(name, title or name, "key")


TOUCH_KEYS = (key("program"), key("stage"), key("content", "item"), key("channel"))
TOUCHES = Source(
    "touches",
    "Touches and what came of them",
    "SELECT *, decided_at AS at FROM scorer.touch_result",
    TOUCH_KEYS,
    {
        "decided": ("decided", "true"),
        "held_out": ("held out", "reason = 'holdout'"),
        "sent": ("sent", "sent_at IS NOT NULL"),
        "delivered": ("delivered", "delivered_at IS NOT NULL"),
        "bounced": ("bounced", "bounced_at IS NOT NULL"),
        "clicked": ("clicked by people", "clicked_at IS NOT NULL"),
        "replied": ("replied", "replied_at IS NOT NULL"),
        "moved": ("moved forward", "moved_at IS NOT NULL"),
        "left": ("left", "left_at IS NOT NULL"),
        "followed": ("14 days old", f"sent_at <= CAST(:now AS timestamptz) - {AGE}"),
        "moved_of_followed": (
            "moved forward of those",
            f"moved_at IS NOT NULL AND sent_at <= CAST(:now AS timestamptz) - {AGE}",
        ),
    },
)
STEPS = Source(
    "steps",
    "Steps from each stage",
    """SELECT a.id, coalesce(l.merged_into, a.lead_id) AS lead_id, a.announced_at AS at, a.product,
        a.from_stage AS stage, a.cause,
        array_position(CAST(:stages AS text[]), a.stage)
            - array_position(CAST(:stages AS text[]), a.from_stage) AS distance,
        extract(epoch FROM a.announced_at - a.previous_at)::float8 / 86400 AS days
    FROM scorer.announcement a LEFT JOIN scorer.lead l ON l.id = a.lead_id
    WHERE a.from_stage = ANY(CAST(:stages AS text[]))""",
    (key("product"), key("stage", "from")),
    {
        "forward": ("steps forward", "distance > 0"),
        "own": ("by an act of their own", "distance > 0 AND cause IN ('event', 'late_evidence')"),
        "back": ("steps back", "distance < 0"),
    },
    {
        "median_days": (
            "median days to a step forward",
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY days) FILTER (WHERE distance > 0)",
        )
    },
)
HANDOFF_FIGURES = {
    "opened": ("opened", "true"),
    "responded": ("answered at all", "responded_at IS NOT NULL"),
    "accepted": ("accepted", "status = 'accepted'"),
    "turned_down": ("rejected or disqualified", "status IN ('rejected', 'disqualified')"),
    "returned": ("returned", "status = 'returned'"),
    "converted": ("converted", "converted_at IS NOT NULL"),
    "expired": ("expired", "status = 'expired'"),
    "open": ("open", "status = 'open'"),
}
HANDOFF_SQL = """SELECT id, lead_id, opened_at AS at, kind, status,
    coalesce(nullif(owner, ''), 'nobody') AS owner, responded_at, converted_at,
    extract(epoch FROM responded_at - opened_at)::float8 / 3600 AS hours
    FROM scorer.handoff WHERE opened_at IS NOT NULL"""
MEDIAN_HOURS = {
    "median_hours": (
        "median hours to the first response",
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY hours)",
    )
}
HANDOFFS = Source(
    "handoffs", "Hand-offs by kind", HANDOFF_SQL, (key("kind"),), HANDOFF_FIGURES, MEDIAN_HOURS
)
OWNERS = Source(
    "owners", "Hand-offs by owner", HANDOFF_SQL, (key("owner"),), HANDOFF_FIGURES, MEDIAN_HOURS
)


def funnel(playbook: Playbook) -> Source:
    """Leads by the week in which their first stage was known, and how far they have come."""
    figures = {"entered": ("entered", "true")}
    for place, stage in enumerate(playbook.stages, 1):
        figures[f"reached_{place}"] = (f"reached {stage.replace('_', ' ')}", f"furthest >= {place}")
    figures["outcome"] = (playbook.model.outcome.replace("_", " "), "has_outcome")
    return Source(
        "funnel",
        "Funnel by week of entry",
        """SELECT n.lead_id, n.lead_id AS id, n.entered AS at, n.furthest,
            to_char(date_trunc('week', n.entered AT TIME ZONE 'UTC'), 'YYYY-MM-DD') AS week,
            o.lead_id IS NOT NULL AS has_outcome
        FROM (SELECT coalesce(l.merged_into, a.lead_id) AS lead_id, min(a.announced_at) AS entered,
                max(array_position(CAST(:stages AS text[]), a.stage)) AS furthest
            FROM scorer.announcement a LEFT JOIN (SELECT id, merged_into FROM scorer.lead
                WHERE merged_into IS NOT NULL) l ON l.id = a.lead_id GROUP BY 1) n
        LEFT JOIN (SELECT DISTINCT e.lead_id FROM scorer.milestone m
            JOIN scorer.event e USING (uid) WHERE m.type = :outcome) o USING (lead_id)""",
        (key("week"),),
        figures,
    )


POOL = Source(
    "pool",
    "Leads in reach, and those that a strict rule would keep",
    """SELECT s.lead_id, s.lead_id AS id, s.product, s.stage, s.qualified,
        to_timestamp(0) + s.last_event_at * interval '1 microsecond' AS at
    FROM scorer.lead_state s WHERE s.listed AND s.sales_rank NOT IN (:won, :disqualified)""",
    (key("product"), key("stage")),
    {
        "in_reach": ("in reach", "true"),
        "qualified": ("qualified first", "qualified"),
        "let_go": ("let go by that rule", "NOT qualified"),
    },
)
OUTCOMES = Source(
    "outcomes",
    "Outcomes so far, and whose they are",
    """SELECT DISTINCT ON (e.lead_id) e.lead_id, e.uid AS id,
        to_timestamp(0) + e.occurred_at * interval '1 microsecond' AS at, m.type AS outcome,
        EXISTS (SELECT 1 FROM scorer.lead_state s WHERE s.lead_id = e.lead_id AND s.qualified)
            AS qualified
    FROM scorer.milestone m JOIN scorer.event e USING (uid) WHERE m.type = :outcome
    ORDER BY e.lead_id, e.occurred_at""",
    (key("outcome"),),
    {
        "outcomes": ("leads with it", "true"),
        "qualified": ("of qualified leads", "qualified"),
        "let_go": ("of leads that the rule would have let go", "NOT qualified"),
    },
)
ARMS = Source(
    "arms",
    "Who is nurtured and who is held out",
    f"""SELECT n.lead_id, n.lead_id AS id, n.entered_at AS at,
        CASE WHEN l.draw < :share THEN 'hold-out' WHEN l.draw >= :calendar_from THEN 'calendar'
            ELSE 'nurtured' END AS arm, o.at AS reached
    FROM scorer.entry n
    JOIN scorer.lead l ON l.id = n.lead_id AND l.excluded = '' AND l.draw IS NOT NULL
    LEFT JOIN ({OUTCOME_AFTER_ENTRY}) o ON o.lead_id = n.lead_id""",
    (key("arm"),),
    {"leads": ("leads", "true"), "outcomes": ("with the outcome since", "reached IS NOT NULL")},
)
SALES_ANSWERS = Source(
    "answers",
    "What sales reports",
    """SELECT e.lead_id, e.uid AS id, m.type,
        to_timestamp(0) + e.occurred_at * interval '1 microsecond' AS at,
        to_char(date_trunc('week', to_timestamp(e.occurred_at / 1000000)
            AT TIME ZONE 'UTC'), 'YYYY-MM-DD') AS week
    FROM scorer.milestone m JOIN scorer.event e USING (uid)
    WHERE m.type IN ('sales_accepted', 'sales_rejected', 'sales_disqualified', 'opportunity_opened',
        'won', 'lost', 'refunded', 'churned', 'purchased')""",
    (key("week"),),
    {
        "answers": ("reports", "true"),
        "accepted": ("accepted", "type = 'sales_accepted'"),
        "rejected": ("rejected or disqualified",
                     "type IN ('sales_rejected', 'sales_disqualified')"),
        "opportunities": ("opportunities", "type = 'opportunity_opened'"),
        "won": ("won", "type IN ('won', 'purchased')"),
    },
)  # fmt: skip


QUERIES = Source(
    "queries",
    "Queries of the API",
    """SELECT CAST(q.day AS timestamp) AT TIME ZONE 'UTC' AS at, q.queries,
        to_char(date_trunc('week', q.day), 'YYYY-MM-DD') AS week, coalesce(k.name, q.key_id) AS key
    FROM scorer.query_use q LEFT JOIN access.api_key k ON k.id = q.key_id""",
    (key("week"), key("key")),
    {},
    {"queries": ("queries", "sum(queries)::bigint")},
)
OVERRIDES = Source(
    "overrides",
    "What people overruled",
    """SELECT at, action,
        to_char(date_trunc('week', at AT TIME ZONE 'UTC'), 'YYYY-MM-DD') AS week
    FROM access.audit WHERE action = ANY(:overrides)""",
    (key("week"), key("action")),
    {},
    {"times": ("times", "count(*)")},
)


def columns(source: Source) -> list[Column]:
    """The columns of a source's table."""
    return [
        *source.keys,
        *(Column(name, title) for name, (title, _) in source.figures.items()),
        *(Column(name, title, "number") for name, (title, _) in source.numbers.items()),
    ]
