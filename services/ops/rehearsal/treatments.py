"""What is done with leads: nurtured by the playbook, left alone, or written to by the calendar."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from services.nurture.rules.answers import (
    STAGE_CHANGED,
    answers_to_requests,
    answers_to_stage,
    is_step_forward,
    next_touch,
    rechecked,
)
from services.nurture.rules.cadence import WITH_SALES
from services.nurture.rules.consent import permitted
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Lead
from services.nurture.rules.learned import Cell, Evidence, Outcomes
from services.nurture.rules.steps import newly_entered, step
from services.nurture.store.outcomes import REFUSAL_COST, WITHIN
from services.ops.rehearsal.cast import Actor, Options, SalesAtWork, answering, incoming
from services.ops.rehearsal.known import Known
from services.ops.simulation.people import MINUTE, answer_to_mail
from services.shared.clock import DAY, from_us, to_us
from services.shared.contracts.consent import ConsentKey
from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import ChangeEvent, Consent, Interaction, Touch
from services.shared.playbook.sections import Content

READ_AFTER = timedelta(seconds=2)  # a click, and then the page behind it
# told of each decision that is final, with the lead as it was
Decided = Callable[[Actor, Touch, Lead, datetime], None]


class Sent(NamedTuple):
    """A touch that went out at an instant (µs)."""

    at: int
    lead: str
    requested: bool


class Post:
    """Has people find a touch, and do with it what they do with mails."""

    def __init__(self, rules: Rules, options: Options) -> None:
        self._rules, self._options = rules, options
        self._start = to_us(options.start)
        self.sent: list[Sent] = []

    def deliver(self, actor: Actor, touch: Touch, content: Content, now: datetime) -> str:
        """The touch is evidence for the scorer, and may be answered; returns how, as
        `answer_to_mail` does.
        """
        at, cleaner = to_us(now), self._rules.cleaner
        tracked = touch.channel == "email" and self._rules.playbook.tracking == "granted"
        pixel = tracked and self._rules.playbook.open_pixel
        went = Interaction(
            id=touch.id, type=TOUCH_SENT, email=actor.person.email, product=touch.product,
            content_id=content.id, touch_id=touch.id,
            properties={"opens_tracked": pixel, "clicks_tracked": tracked},
        )  # fmt: skip
        actor.add(incoming(went, at, cleaner))
        self.sent.append(Sent(at, actor.id, bool(touch.requested)))
        if touch.channel == "call":
            return ""
        rng = answering(self._options, actor)
        action = answer_to_mail(actor.person, (at - self._start) / DAY, rng)
        answered = at + int(rng.uniform(2, 600) * MINUTE * DAY)
        for data, when in self._answers(actor, touch, content, action, answered, tracked=tracked):
            actor.add(incoming(data, when, cleaner))
        return action

    def _answers(
        self, actor: Actor, touch: Touch, content: Content, action: str, at: int, *, tracked: bool
    ) -> list[tuple[Interaction, int]]:
        email, name = actor.person.email, f"{touch.id}/{action}"
        if action == "leave":
            consent = Consent(state="withdrawn", basis="unsubscribe link")
            left = Interaction(
                id=name, type="unsubscribed", email=email, touch_id=touch.id, consent=(consent,)
            )
            return [(left, at)]
        if action != "follow":
            return []
        clicked = Interaction(
            id=name, type="email_clicked", email=email, touch_id=touch.id, content_id=content.id,
            url=content.url,
        )  # fmt: skip
        viewed = Interaction(
            id=f"{name}/page", type="page_viewed", email=email,
            anonymous_id=actor.person.anonymous_ids[0], url=content.url,
        )  # fmt: skip
        page = (viewed, at + READ_AFTER // timedelta(microseconds=1))
        return [(clicked, at), page] if tracked else [page]


class LeftAlone:
    """Nothing is sent."""

    hears = False

    def begin(self, now: int) -> None:
        """Nothing to do."""

    def heard(self, actor: Actor, changes: Sequence[ChangeEvent], now: int) -> None:
        """Nothing to do."""

    def next_at(self, actor: Actor) -> int | None:
        """Never."""
        return None

    def do(self, actor: Actor, now: int) -> None:
        """Nothing to do."""


class Drip:
    """The same content by the calendar: from the first permission on one item of the persona's
    program after another, in the author's order, at the program's usual pace, whatever the stage,
    until all are sent or the person leaves. The hold-out gets nothing.
    """

    hears = False

    def __init__(self, rules: Rules, post: Post, held_out: Callable[[Actor], bool]) -> None:
        self._rules, self._post, self._held_out = rules, post, held_out
        self._plans: dict[str, list[tuple[int, Content]]] = {}

    def begin(self, now: int) -> None:
        """Nothing to do."""

    def heard(self, actor: Actor, changes: Sequence[ChangeEvent], now: int) -> None:
        """Begins with who permits it."""
        if actor.id in self._plans or self._held_out(actor) or not actor.row.profile.consent:
            return
        if self._permits(actor):
            self._plans[actor.id] = self._plan(actor, now)

    def _permits(self, actor: Actor) -> bool:
        profile = actor.row.profile
        consent = profile.consent_for(ConsentKey(profile.email)) if profile.email else None
        return permitted(consent, double_opt_in=self._rules.playbook.consent.double_opt_in)

    def _plan(self, actor: Actor, now: int) -> list[tuple[int, Content]]:
        """The last item first."""
        playbook, library = self._rules.playbook, self._rules.library
        persona = library.persona(actor.row.profile.known_traits()).id
        for program in playbook.programs:
            live = program.trigger == "stage" and library.live_program(program.id)
            if live and program.items and persona in (program.personas or [persona]):
                apart = int(program.pace.usual * DAY)
                items = (playbook.content_by_id[name] for name in program.items)
                return [(now + n * apart, item) for n, item in enumerate(items, 1)][::-1]
        return []

    def next_at(self, actor: Actor) -> int | None:
        """The next day of the calendar."""
        plan = self._plans.get(actor.id)
        return plan[-1][0] if plan else None

    def do(self, actor: Actor, now: int) -> None:
        """Sends what the calendar says, to who still permits it."""
        plan = self._plans.get(actor.id, [])
        while plan and plan[-1][0] <= now:
            _, item = plan.pop()
            if not self._permits(actor):
                plan.clear()
                return
            touch = Touch(
                id=f"{actor.id}-{len(plan)}", lead=actor.id, channel="email", status="sent",
                content=item.id, product=self._rules.playbook.products[0],
            )  # fmt: skip
            self._post.deliver(actor, touch, item, from_us(now))


class Outcome:
    """What came of one touch, for the learned choice."""

    def __init__(self, touch: Touch, sent_at: datetime, *, refused: bool) -> None:
        self.touch, self.sent_at, self.refused = touch, sent_at, refused
        self.progressed = False


class Nurtured:
    """By the rules of the playbook, as nurture's handler, planner and scheduler do it."""

    hears = True

    def __init__(self, rules: Rules, post: Post, sales: SalesAtWork, decided: Decided) -> None:
        self._rules, self._post, self._sales, self._decided = rules, post, sales, decided
        self._known: dict[str, Known] = {}
        self._outcomes: dict[str, list[Outcome]] = {}
        self.learns = any(program.choice == "learned" for program in rules.playbook.programs)

    @property
    def waiting(self) -> int:
        """How many touches wait for their moment."""
        return sum(len(known.due) for known in self._known.values())

    def begin(self, now: int) -> None:
        """Reads what came of touches, where a choice is learned from that."""
        if self.learns:
            found = (one for many in self._outcomes.values() for one in many)
            self._rules.library.evidence = evidence(found, from_us(now))

    def next_at(self, actor: Actor) -> int | None:
        """When something is to be decided or sent."""
        known = self._known.get(actor.id)
        return known.next_at if known else None

    def heard(self, actor: Actor, changes: Sequence[ChangeEvent], now: int) -> None:
        """Keeps what is published, and decides what it asks for."""
        if not changes:
            return
        known = self._known.setdefault(actor.id, Known(actor.id))
        moment = from_us(now)
        for event in changes:
            known.keep(event.data, event.time)
        self._note_progress(actor, changes, moment)
        known.call(moment)
        for event in changes:
            if event.type != STAGE_CHANGED and not event.data.requests:
                continue
            lead = self._lead(known, event.data.product, moment)
            if event.type == STAGE_CHANGED:
                answers = answers_to_stage(self._rules, event, lead, moment, known.enrolments)
                for touch, enrolment in answers:
                    if self._add(actor, known, touch, lead, moment) and enrolment:
                        known.enrolments[enrolment.program] = enrolment
            else:
                for touch in answers_to_requests(self._rules, event, lead, moment):
                    self._add(actor, known, touch, lead, moment)
        known.plan()

    def do(self, actor: Actor, now: int) -> None:
        """What is due: first what comes next is decided, then what is due is checked and sent."""
        known = self._known.get(actor.id)
        if known is None or known.next_at is None or known.next_at > now:
            return
        moment = from_us(now)
        self._step(actor, known, moment)
        if known.due:
            self._send(actor, known, moment)
        known.plan()

    def _lead(self, known: Known, product: str, now: datetime) -> Lead:
        account = self._rules.account_of(known.snapshot(product))
        busy = bool(account) and self._sales.is_with_another(
            account, known.id, to_us(now), WITH_SALES
        )
        return known.lead(product, now, account_with_sales=busy)

    def _add(self, actor: Actor, known: Known, touch: Touch, lead: Lead, now: datetime) -> bool:
        """Adds a decision; False where it is known."""
        if touch.id in known.decided:
            return False
        known.decided.add(touch.id)
        if touch.status == "due":
            known.due[touch.id] = touch
        else:
            self._decided(actor, touch, lead, now)
        return True

    def _step(self, actor: Actor, known: Known, now: datetime) -> None:
        """As the planner: the enrolments whose moment has come, and programs that are new."""
        rules = self._rules
        due = [one for one in known.enrolments.values() if one.next_at and one.next_at <= now]
        leads = {product: self._lead(known, product, now) for product in {o.product for o in due}}
        for product, lead in sorted(leads.items()):
            due += newly_entered(rules, lead, product, [*known.enrolments], now)
        for one in sorted(due, key=lambda one: one.program):
            lead = leads[one.product]
            done = step(rules, lead, one, now, is_pending=known.is_pending(one.program))
            if done.decision:
                touch = next_touch(rules, one, done.decision, lead, now)
                self._add(actor, known, touch, lead, now)
            known.enrolments[one.program] = done.enrolment

    def _send(self, actor: Actor, known: Known, now: datetime) -> None:
        """As the scheduler: one touch of a lead at a time."""
        due = [touch for touch in known.due.values() if touch.due_at and touch.due_at < now]
        has_sent = False
        for touch in sorted(due, key=lambda touch: (touch.due_at, touch.id)):
            if has_sent:  # it is looked at again a moment later
                known.due[touch.id] = replace(touch, due_at=now)
                continue
            lead = self._lead(known, touch.product, now)
            enrolment = known.enrolments.get(touch.program)
            checked = rechecked(self._rules, touch, lead, now, enrolment)
            if checked.status == "due":
                known.due[touch.id] = checked
                continue
            del known.due[touch.id]
            if checked.status == "withheld":
                self._decided(actor, checked, lead, now)
                known.call_after(checked.program, now)
                continue
            has_sent = True
            self._out(actor, known, replace(checked, status="sent", sent_at=now), lead, now)

    def _out(self, actor: Actor, known: Known, touch: Touch, lead: Lead, now: datetime) -> None:
        self._decided(actor, touch, lead, now)
        known.sent(touch, now)
        known.call_after(touch.program, now)
        content = self._rules.playbook.content_by_id[touch.content]
        action = self._post.deliver(actor, touch, content, now)
        if self.learns and not touch.requested:
            outcome = Outcome(touch, now, refused=action == "leave")
            self._outcomes.setdefault(actor.id, []).append(outcome)

    def _note_progress(self, actor: Actor, changes: Sequence[ChangeEvent], now: datetime) -> None:
        """Notes steps forward within their time after touches."""
        stages = self._rules.playbook.stages
        outcomes = self._outcomes.get(actor.id, ())
        if outcomes and any(
            event.type == STAGE_CHANGED and is_step_forward(stages, event.data) for event in changes
        ):
            for one in outcomes:
                one.progressed = one.progressed or now - one.sent_at < WITHIN


def evidence(outcomes: Iterable[Outcome], now: datetime) -> Evidence:
    """What came of the touches whose time for it is over."""
    by_item: dict[str, dict[Cell, Outcomes]] = {}
    for one in outcomes:
        if one.sent_at > now - WITHIN:
            continue
        cell = Cell(one.touch.stage, one.touch.persona)
        cells = by_item.setdefault(one.touch.content, {})
        before = cells.get(cell, Outcomes())
        reward = before.reward + one.progressed - REFUSAL_COST * one.refused
        cells[cell] = Outcomes(before.sent + 1, reward)
    return Evidence(
        {
            item: {cell: of._replace(reward=max(0.0, of.reward)) for cell, of in cells.items()}
            for item, cells in by_item.items()
        }
    )
