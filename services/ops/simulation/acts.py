"""What simulated people do on the site, with mails and with sales, without clock and IO."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from services.ops.simulation.people import HOUR, MINUTE, Act, Endpoint, Person, StageSpan
from services.ops.simulation.personas import (
    CONSENT_TEXT,
    FOLLOWS_MAIL,
    GIVES_ADDRESS,
    IN_A_SESSION,
    SENT_LATE,
    SENT_TWICE,
    SENT_VERY_LATE,
    SESSIONS_A_DAY,
    UNSUBSCRIBES_A_DAY,
    UNSUBSCRIBES_BY_MAIL,
)
from services.ops.simulation.world import CURIOUS, DECIDING, QUIET, WEIGHING, World


def give_acts(world: World, person: Person, days: float) -> None:
    """Fills `person.acts`, in the order of their happening."""
    rng = person.rng
    acts = list(session(world, person, person.first_visit))
    for span, following in zip(
        person.spans, [*person.spans[1:], StageSpan(days, None)], strict=True
    ):
        end = min(following.since, days)
        if span.stage is None:
            acts += _outcome(person, span.since)
            break
        at = span.since
        while (at := at + _gap(rng, person, span.stage)) < end:
            acts += session(world, person, at)
        acts += _unsubscribe(person, span, span.stage, end)
    acts = [act for act in acts if act.at < days]
    acts.sort(key=lambda act: act.at)
    person.acts = [replace(act, id=f"{person.index:05d}-{n:04d}") for n, act in enumerate(acts)]


def _unsubscribe(person: Person, span: StageSpan, stage: int, end: float) -> Iterator[Act]:
    """A known person may unsubscribe before the end of a span."""
    if person.known_since is None or person.unsubscribed_at is not None:
        return
    wait = person.rng.expovariate(UNSUBSCRIBES_A_DAY[stage])
    at = max(span.since, person.known_since) + wait
    if at < end:
        person.unsubscribed_at = at
        yield _act(person, at, "events", "unsubscribed", {"email": person.email})


def _gap(rng: random.Random, person: Person, stage: int) -> float:
    """Days to the next session: Weibull with shape .8, so that sessions come in clusters; mean 1 /
    rate.
    """
    return rng.weibullvariate(1 / 1.133, 0.8) / (SESSIONS_A_DAY[stage] * person.activity)


def session(world: World, person: Person, at: float) -> Iterator[Act]:
    """One visit: a burst of pages a few minutes apart, and what the stage makes of it."""
    rng = person.rng
    stage = person.stage_at(at)
    stage = QUIET if stage is None else stage
    device = person.anonymous_ids[-1] if rng.random() < 0.3 else person.anonymous_ids[0]
    visitor: dict[str, Any] = {"anonymous_id": device}
    if person.user_id and device in person.linked and rng.random() < 0.6:
        visitor["user_id"] = person.user_id
    campaign = (
        {"source": rng.choice(("search", "newsletter", "social", "partner"))}
        if rng.random() < 0.3
        else {}
    )
    yield _view(
        person,
        at,
        visitor | campaign,
        world.website + rng.choice(("/", "/", "/about", "/customers", "/blog")),
    )
    for name, chances in IN_A_SESSION.items():
        if rng.random() < chances[stage]:
            at += rng.uniform(0.5, 6) * MINUTE
            yield from _ACTS[name](world, person, at, visitor)
    while rng.random() < 0.35:
        at += rng.uniform(0.3, 4) * MINUTE
        yield _view(
            person,
            at,
            visitor,
            f"{world.website}/{rng.choice(('product', 'customers', 'docs', 'changelog'))}",
        )
    yield from _give_address(world, person, at + rng.uniform(0.5, 3) * MINUTE, visitor, stage)


def _act(
    person: Person, at: float, endpoint: Endpoint, kind: str, fields: dict[str, Any], form: str = ""
) -> Act:
    """An act whose message is sent at once, late, very late, or twice."""
    rng = person.rng
    delay = rng.uniform(0, 0.5) * MINUTE
    if endpoint != "form":  # a browser posts a form at once, and once
        drawn = rng.random()
        if drawn < SENT_VERY_LATE:
            delay = rng.uniform(1, 6)
        elif drawn < SENT_VERY_LATE + SENT_LATE:
            delay = rng.uniform(0.2, 12) * HOUR
    sent = at + delay
    copies = (
        (sent + rng.uniform(0.001, 2),) if endpoint != "form" and rng.random() < SENT_TWICE else ()
    )
    return Act(person.index, "", at, sent, endpoint, kind, fields, form, copies)


def _view(person: Person, at: float, visitor: dict[str, Any], url: str, **more: Any) -> Act:
    endpoint: Endpoint = "segment" if person.rng.random() < 0.3 and not more else "events"
    return _act(person, at, endpoint, "page_viewed", visitor | {"url": url} | more)


def _reading(stage: int) -> Any:
    def read(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
        pages = world.pages(stage)
        if not pages:
            return
        page = person.rng.choice(pages)
        yield _view(person, at, visitor, page.url)
        if person.rng.random() < 0.3:
            kind = "video_watched" if "video" in page.format else "content_downloaded"
            yield _act(
                person,
                at + 2 * MINUTE,
                "events",
                kind,
                visitor | {"content_id": page.content_id, "url": page.url},
            )

    return read


def _webinar(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    yield _act(person, at, "events", "webinar_registered", dict(visitor))
    if person.rng.random() < 0.6:
        yield _act(
            person, at + person.rng.uniform(1, 6), "events", "webinar_attended", dict(visitor)
        )


def _pricing(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    url = world.urls.get("pricing_viewed", f"{world.website}/pricing")
    yield _act(person, at, "events", "pricing_viewed", visitor | {"url": url})


def _request(kind: str) -> Any:
    def ask(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
        form = world.forms.get(kind, "")
        if form:
            yield _form(person, at, form, kind)
        else:
            yield _act(person, at, "events", kind, visitor | {"email": person.email})
        yield from _identify(person, at, visitor)

    return ask


def _talk(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    if person.known_since is None:
        return
    kind = person.rng.choice(("email_replied", "call_held", "meeting_held"))
    at += person.rng.uniform(0.2, 3)
    crm = {"email": person.email, "external_id": {"system": "crm", "id": person.crm_id}}
    if kind == "call_held":
        yield _act(person, at - 0.1, "events", "call_attempted", dict(crm))
    yield _act(person, at, "events", kind, crm)


def _social(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    yield _act(
        person,
        at,
        "events",
        person.rng.choice(("social_engaged", "ad_clicked")),
        visitor | {"source": "social"},
    )


_ACTS: dict[str, Any] = {
    "read_curious": _reading(CURIOUS),
    "read_weighing": _reading(WEIGHING),
    "read_deciding": _reading(DECIDING),
    "webinar": _webinar,
    "pricing": _pricing,
    "enquiry": _request("enquired"),
    "demo": _request("demo_requested"),
    "talk": _talk,
    "social": _social,
}


def _give_address(
    world: World, person: Person, at: float, visitor: dict[str, Any], stage: int
) -> Iterator[Act]:
    """An anonymous visitor may become known; a known person's second device is linked in time."""
    rng = person.rng
    if person.known_since is None:
        if rng.random() >= GIVES_ADDRESS[stage] * person.persona.openness:
            return
        gated = [page for page in world.pages(max(stage, CURIOUS)) if page.form]
        page = rng.choice(gated) if gated else None
        yield _form(person, at, page.form if page else "newsletter", "form_submitted")
    elif visitor["anonymous_id"] in person.linked or rng.random() > 0.5:
        return
    yield from _identify(person, at + 0.2 * MINUTE, visitor)


def _form(person: Person, at: float, form: str, kind: str) -> Act:
    person.known_since = at if person.known_since is None else person.known_since
    fields: dict[str, Any] = {"email": person.email} | person.traits
    if person.consents:
        fields |= {"consent": "yes"}
    return _act(person, at, "form", kind, fields, form)


def _identify(person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    """The site's script tells person sits at this device."""
    if visitor["anonymous_id"] in person.linked:
        return
    person.known_since = at if person.known_since is None else person.known_since
    person.linked.add(visitor["anonymous_id"])
    fields = {
        "anonymous_id": visitor["anonymous_id"],
        "email": person.email,
        "traits": dict(person.traits),
    }
    if person.user_id:
        fields["user_id"] = person.user_id
    endpoint: Endpoint = "segment" if person.user_id and person.rng.random() < 0.5 else "events"
    if endpoint == "events" and person.consents:
        fields["consent"] = [
            {
                "channel": "email",
                "purpose": "marketing",
                "state": "given",
                "basis": "consent",
                "text": CONSENT_TEXT,
            }
        ]
    yield _act(person, at, endpoint, "identified", fields)


def _outcome(person: Person, at: float) -> Iterator[Act]:
    """What the CRM posts of a lead that sales took over."""
    if person.known_since is None:
        return
    crm: dict[str, Any] = {
        "email": person.email,
        "external_id": {"system": "crm", "id": person.crm_id},
    }
    yield _act(person, at, "events", "opportunity_opened", dict(crm))
    decided = at + person.rng.gammavariate(2, 4)
    if person.rng.random() < 0.55:
        yield _act(person, decided, "events", "won", dict(crm))
        yield _act(person, decided + HOUR, "events", "purchased", dict(crm))
    else:
        yield _act(person, decided, "events", "lost", dict(crm))


def answer_to_mail(
    person: Person, day: float, rng: random.Random
) -> Literal["", "follow", "leave"]:
    """What a person does with a mail that came: nothing, follow its link, or leave the list."""
    stage = person.stage_at(day)
    if stage is None or person.unsubscribed_at is not None:
        return ""
    drawn = rng.random()
    if drawn < UNSUBSCRIBES_BY_MAIL[stage]:
        return "leave"
    return (
        "follow"
        if drawn < UNSUBSCRIBES_BY_MAIL[stage] + FOLLOWS_MAIL[stage] * min(person.activity, 1.5)
        else ""
    )
