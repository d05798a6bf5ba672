"""A rehearsal: the same simulated people nurtured, left alone, and written to by the calendar."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from services.nurture.rules.grounds import Rules
from services.ops.rehearsal.beside import beside
from services.ops.rehearsal.cast import Actor, Options, SalesAtWork, actor, again, people
from services.ops.rehearsal.plot import Curves, drawn
from services.ops.rehearsal.rows import Rows, act_lines, lines
from services.ops.rehearsal.run import LEARNING_WINDOW, WINDOW, Course, Run
from services.ops.rehearsal.treatments import Drip, LeftAlone, Nurtured, Post, Sent
from services.ops.simulation.world import World
from services.scorer.scoring import Scoring
from services.shared.clock import DAY, Clock, rfc3339, to_us
from services.shared.playbook.sections import Playbook

NOTE = (
    "Simulated people, never a forecast: they are those of the demo, whom no mail makes buy "
    "sooner; mail brings visits and unsubscribes."
)
PEOPLE = 0.1  # of the whole work
Progress = Callable[[str, float], None]  # a step, and the share of the whole that is done


class Rehearsal(NamedTuple):
    """What a rehearsal brings: the lines of both files, the summary, and the plot as SVG."""

    touches: bytes
    events: bytes
    summary: dict[str, Any]
    plot: str


class Outcome(NamedTuple):
    """What is compared of one course: steps forward and unsubscribing at instants (µs), and whose;
    what was sent.
    """

    steps: list[tuple[int, str]]
    left: list[tuple[int, str]]
    sent: list[Sent]


def rehearse(playbook: Playbook, options: Options, progress: Progress) -> Rehearsal:
    """Rehearses a playbook. The same options and the same playbook bring the same bytes."""
    scoring = Scoring.of(playbook, Clock(), b"rehearsal")
    cast = _cast(playbook, options, scoring, progress)
    rules = Rules.of(playbook, sink=True)
    rows, post = Rows(rules), Post(rules, options)
    others = beside(lambda: _others(scoring, cast, rows, rules, options))
    nurtured = Nurtured(rules, post, SalesAtWork(cast), rows.decided)
    run = _new_run(scoring, options)
    course = run.add(cast, nurtured)
    run.run(
        lambda share: progress("rehearsing", PEOPLE + (1 - PEOPLE) * share),
        LEARNING_WINDOW if nurtured.learns else WINDOW,
    )
    outcomes = {"nurtured": _outcome_of(course, post), **others()}
    curves = {name: _curves(one, options) for name, one in outcomes.items()}
    summary = _summary(playbook, options, rows, outcomes, nurtured.waiting)
    return Rehearsal(lines(rows.rows), act_lines(course.acts), summary, drawn(curves, options.days))


def _others(
    scoring: Scoring, cast: Sequence[Actor], rows: Rows, rules: Rules, options: Options
) -> dict[str, Outcome]:
    """The same people left alone, and by the calendar."""
    posts = {name: Post(rules, options) for name in ("left_alone", "calendar")}
    run = _new_run(scoring, options)
    alone = run.add([again(one) for one in cast], LeftAlone())
    drip = Drip(rules, posts["calendar"], rows.held_out)
    calendar = run.add([again(one) for one in cast], drip)
    run.run(lambda share: None)
    courses = zip((alone, calendar), posts.items(), strict=True)
    return {name: _outcome_of(course, post) for course, (name, post) in courses}


def _new_run(scoring: Scoring, options: Options) -> Run:
    start = to_us(options.start)
    return Run(scoring, start, start + options.days * DAY)


def _outcome_of(course: Course, post: Post) -> Outcome:
    left = [(act.at, act.lead) for act in course.acts if act.type == "unsubscribed"]
    return Outcome(course.steps, left, post.sent)


def _cast(
    playbook: Playbook, options: Options, scoring: Scoring, progress: Progress
) -> list[Actor]:
    cast = []
    for person in people(World.of(playbook), options):
        cast.append(actor(person, options, scoring))
        if person.index % 50 == 0:
            progress("people", PEOPLE * person.index / options.leads)
    return cast


def _summary(
    playbook: Playbook, options: Options, rows: Rows, outcomes: dict[str, Outcome], waiting: int
) -> dict[str, Any]:
    cadence = playbook.cadence
    sent = [row for row in rows.rows if row["decision"] == "sent"]
    reasons = Counter(row["reason"] for row in rows.rows if row["decision"] == "withheld")
    content = Counter(row["content"] for row in sent)
    offered = dict.fromkeys(
        item
        for program in playbook.programs
        if playbook.state_of(program) == "live"
        for item in program.items
    )
    return {
        "simulated": True,
        "note": NOTE,
        "leads": options.leads,
        "days": options.days,
        "seed": options.seed,
        "start": rfc3339(options.start),
        "end": rfc3339(options.start + timedelta(days=options.days)),
        "caps": [{"days": cap.days, "max": cap.max} for cap in cadence.all_caps],
        "min_hours_between": cadence.min_hours_between,
        "quiet": [f"{hour:02d}:00" for hour in (cadence.quiet_from, cadence.quiet_until)],
        "working_days": sorted(day + 1 for day in cadence.working_days),
        "holidays": cadence.holidays,
        "on_site_minutes": cadence.on_site_minutes,
        "holdout": playbook.holdout.share,
        **_calendar_of(playbook),
        "sent": len(sent),
        "withheld": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        "waiting": waiting,
        "touches_per_lead": round(len(sent) / options.leads, 2),
        "content_sent": {item: content[item] for item in offered},
        "comparison": {name: _compared(one, options) for name, one in outcomes.items()},
    }


def _calendar_of(playbook: Playbook) -> dict[str, Any]:
    """The third arm, where there is one."""
    arm = playbook.holdout.calendar
    return {"calendar_arm": arm.model_dump()} if arm.share else {}


def _compared(outcome: Outcome, options: Options) -> dict[str, Any]:
    """What a course came to: people who took a step forward by their own acts, the steps, people
    who unsubscribed, and touches that nobody asked for.
    """
    progressed = {lead for _, lead in outcome.steps}
    left = {lead for _, lead in outcome.left}
    sends = sum(not one.requested for one in outcome.sent)
    return {
        "progressed": len(progressed),
        "progressed_share": round(len(progressed) / options.leads, 4),
        "steps": len(outcome.steps),
        "unsubscribed": len(left),
        "unsubscribed_share": round(len(left) / options.leads, 4),
        "sends": sends,
        "requested_sends": len(outcome.sent) - sends,
        "sends_per_lead": round(sends / options.leads, 2),
    }


def _curves(outcome: Outcome, options: Options) -> Curves:
    """Cumulative per day: people who progressed, people who unsubscribed, touches."""
    start = to_us(options.start)

    def daily(instants: Sequence[int]) -> list[int]:
        counts = Counter((at - start) // DAY for at in instants)
        total, out = 0, []
        for day in range(options.days):
            total += counts[day]
            out.append(total)
        return out

    def first(pairs: Sequence[tuple[int, str]]) -> list[int]:
        by_lead: dict[str, int] = {}
        for at, lead in pairs:
            by_lead[lead] = min(at, by_lead.get(lead, at))
        return [*by_lead.values()]

    sends = [one.at for one in outcome.sent if not one.requested]
    return Curves(daily(first(outcome.steps)), daily(first(outcome.left)), daily(sends))
