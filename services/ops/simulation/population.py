"""Simulated people with a hidden buying stage: what each of them does, from a seed, without clock
and IO.

They differ in kind from the estimate that is tried on them: a stage lasts a gamma time, no
exponential one; visits come in clusters (Weibull gaps) of whole sessions; and every person is more
or less active than others, whatever the stage. All rates are our own (`personas`).
"""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from services.ops.simulation.personas import (
    ANSWERS_MAIL,
    ARRIVES_IN,
    COMPANIES,
    CONSENT_TEXT,
    FAMILY,
    GIVEN,
    IN_A_SESSION,
    LATE,
    LEAVES_ADDRESS,
    LEAVES_BY_MAIL,
    PERSONAS,
    SESSIONS_A_DAY,
    TWICE,
    UNSUBSCRIBES_A_DAY,
    VERY_LATE,
    Persona,
)
from services.shared.playbook.sections import Playbook

Door = Literal["events", "form", "segment"]
QUIET, CURIOUS, WEIGHING, DECIDING = range(4)
STAGES = 4
HOUR = 1 / 24
MINUTE = HOUR / 60


@dataclass(frozen=True)
class Page:
    """One item of the library as a visitor meets it."""

    content_id: str
    url: str
    form: str
    format: str


@dataclass(frozen=True)
class World:
    """The site that people visit, as the playbook describes it."""

    website: str
    library: tuple[tuple[Page, ...], ...]  # by hidden stage
    urls: dict[str, str]  # type -> an address that means it
    forms: dict[str, str]  # type -> a form that means it
    stages: tuple[str, ...]

    @classmethod
    def of(cls, playbook: Playbook) -> "World":
        """The world of a playbook; hidden stages and its own are matched by their place in the
        order.
        """
        names = playbook.model.stages
        library: list[list[Page]] = [[] for _ in range(STAGES)]
        for item in playbook.content:
            page = Page(item.id, item.url, item.forms[0] if item.forms else "", item.format.lower())
            places = [names.index(stage) for stage in item.stages if stage in names]
            if places:
                library[_scaled(max(places), len(names), STAGES)].append(page)
        site = playbook.company.website.rstrip("/")
        urls = {rule.type: _example(rule.urls[0], site) for rule in playbook.pages if rule.urls}
        forms = {rule.type: rule.forms[0] for rule in playbook.pages if rule.forms}
        return cls(site, tuple(map(tuple, library)), urls, forms, tuple(names))

    def stage_name(self, hidden: int) -> str:
        """The playbook's word for a hidden stage."""
        return self.stages[_scaled(hidden, STAGES, len(self.stages))]

    def pages(self, stage: int) -> tuple[Page, ...]:
        """What is written for a stage, else for the nearest one that has anything."""
        nearest = sorted(range(STAGES), key=lambda other: abs(other - stage))
        return next((self.library[other] for other in nearest if self.library[other]), ())


def _example(pattern: str, site: str) -> str:
    """An address that a pattern with `*` fits."""
    plain = pattern.replace("*", "")
    return plain if "://" in plain else f"{site}/{plain.lstrip('/')}"


def _scaled(place: int, count: int, onto: int) -> int:
    return round(place * (onto - 1) / max(count - 1, 1))


@dataclass(frozen=True)
class Act:
    """One event as it is posted: when it happened and when it is sent, in days since the
    beginning.
    """

    person: int
    id: str
    at: float
    sent: float
    door: Door
    type: str
    fields: dict[str, Any]
    form: str = ""
    copies: tuple[float, ...] = ()  # when the same is sent again


@dataclass(frozen=True)
class Leg:
    """A stretch of a hidden path."""

    since: float
    stage: int | None  # none once the matter is decided


@dataclass
class Person:
    """Somebody, and all that he will do of himself; `legs` is the hidden truth."""

    index: int
    persona: Persona
    traits: dict[str, Any]
    email: str
    user_id: str
    anonymous_ids: tuple[str, ...]
    crm_id: str
    activity: float
    arrives: float
    rng: random.Random
    known_since: float | None = None
    consents: bool = False
    left_at: float | None = None
    legs: list[Leg] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    linked: set[str] = field(default_factory=set)

    def stage_at(self, day: float) -> int | None:
        """The hidden stage at a moment; none before the first visit and after the outcome."""
        place = bisect_right(self.legs, day, key=lambda leg: leg.since) - 1
        return self.legs[place].stage if place >= 0 else None


def population(world: World, seed: int, events: int, days: float = 60.0) -> list[Person]:
    """Seeded people who together do at least `events` distinct things in `days` days, about ten
    each.
    """
    people: list[Person] = []
    total = 0
    while total < events:
        one = person(world, seed, len(people), days)
        total += len(one.acts)
        people.append(one)
    surplus = total - events
    if surplus:  # the last one does only what is still wanted, so that the rate asked for is met
        people[-1].acts = people[-1].acts[: max(len(people[-1].acts) - surplus, 1)]
    return people


def person(
    world: World, seed: int, index: int, days: float, arrives: float | None = None
) -> Person:
    """The index-th person of a seed, with a path and acts up to day `days`."""
    rng = random.Random(f"{seed}/{index}")
    who = _somebody(rng, seed, index, _arrival(rng, days) if arrives is None else arrives)
    who.legs = _path(rng, who.persona, who.arrives, days)
    _give_acts(world, who, days)
    return who


def _arrival(rng: random.Random, days: float) -> float:
    return rng.uniform(0, 0.04) * days if rng.random() < 0.12 else rng.uniform(0, 0.85) * days


def _somebody(rng: random.Random, seed: int, index: int, arrives: float) -> Person:
    persona = rng.choices(PERSONAS, [each.share for each in PERSONAS])[0]
    given, family = rng.choice(GIVEN), rng.choice(FAMILY)
    company = rng.choice(COMPANIES)
    if persona.name == "student":
        company = "lakeside-university"
    traits = {
        "name": f"{given} {family}",
        "title": rng.choice(persona.titles),
        "company": company.replace("-", " ").title(),
        "company_size": rng.randint(*persona.company_size),
        "country": rng.choice(("DE", "FR", "GB", "SE", "US", "NL")),
        "industry": rng.choice(("food", "packaging", "machinery", "metal", "logistics", "retail")),
    }
    devices = 2 if rng.random() < 0.25 else 1
    return Person(
        index=index, persona=persona, traits=traits, arrives=arrives, rng=rng,
        email=f"{given}.{family}.{seed}-{index}@{company}.example".lower(),
        user_id=f"user-{seed}-{index}" if rng.random() < 0.5 else "",
        anonymous_ids=tuple(
            f"visitor-{seed}-{index}-{rng.getrandbits(48):012x}" for _ in range(devices)
        ),
        crm_id=f"crm-{seed}-{index}",
        activity=persona.activity * rng.gammavariate(1.6, 1 / 1.6),
        consents=rng.random() < 0.85,
    )  # fmt: skip


def _path(rng: random.Random, persona: Persona, arrives: float, days: float) -> list[Leg]:
    stage = rng.choices(range(STAGES), ARRIVES_IN)[0]
    legs, since = [Leg(arrives, stage)], arrives
    while True:
        since += rng.gammavariate(2.2, persona.days[stage] / 2.2)
        if since >= days:
            return legs
        onward = rng.choices(range(STAGES + 1), persona.onwards[stage])[0]
        if onward == STAGES:
            return [*legs, Leg(since, None)]
        stage = onward
        legs.append(Leg(since, stage))


def _give_acts(world: World, who: Person, days: float) -> None:
    """Fills `who.acts`, in the order of their happening."""
    rng = who.rng
    acts = list(session(world, who, who.arrives))
    for leg, following in zip(who.legs, [*who.legs[1:], Leg(days, None)], strict=True):
        end = min(following.since, days)
        if leg.stage is None:
            acts += _outcome(who, leg.since)
            break
        at = leg.since
        while (at := at + _gap(rng, who, leg.stage)) < end:
            acts += session(world, who, at)
        if who.known_since is not None and who.left_at is None:
            leaves = max(leg.since, who.known_since) + rng.expovariate(
                UNSUBSCRIBES_A_DAY[leg.stage]
            )
            if leaves < end:
                who.left_at = leaves
                acts.append(_act(who, leaves, "events", "unsubscribed", {"email": who.email}))
    acts = [act for act in acts if act.at < days]
    acts.sort(key=lambda act: act.at)
    who.acts = [replace(act, id=f"{who.index:05d}-{n:04d}") for n, act in enumerate(acts)]


def _gap(rng: random.Random, who: Person, stage: int) -> float:
    """Days to the next session: Weibull with shape .8, so that sessions come in clusters; mean 1 /
    rate.
    """
    return rng.weibullvariate(1 / 1.133, 0.8) / (SESSIONS_A_DAY[stage] * who.activity)


def session(world: World, who: Person, at: float) -> Iterator[Act]:
    """One visit: a burst of pages a few minutes apart, and what the stage makes of it."""
    rng = who.rng
    stage = who.stage_at(at)
    stage = QUIET if stage is None else stage
    device = who.anonymous_ids[-1] if rng.random() < 0.3 else who.anonymous_ids[0]
    seen: dict[str, Any] = {"anonymous_id": device}
    if who.user_id and device in who.linked and rng.random() < 0.6:
        seen["user_id"] = who.user_id
    campaign = (
        {"source": rng.choice(("search", "newsletter", "social", "partner"))}
        if rng.random() < 0.3
        else {}
    )
    yield _view(
        who,
        at,
        seen | campaign,
        world.website + rng.choice(("/", "/", "/about", "/customers", "/blog")),
    )
    for name, chances in IN_A_SESSION.items():
        if rng.random() < chances[stage]:
            at += rng.uniform(0.5, 6) * MINUTE
            yield from _ACTS[name](world, who, at, seen)
    while rng.random() < 0.35:
        at += rng.uniform(0.3, 4) * MINUTE
        yield _view(
            who,
            at,
            seen,
            f"{world.website}/{rng.choice(('product', 'customers', 'docs', 'changelog'))}",
        )
    yield from _leave_address(world, who, at + rng.uniform(0.5, 3) * MINUTE, seen, stage)


def _act(
    who: Person, at: float, door: Door, kind: str, fields: dict[str, Any], form: str = ""
) -> Act:
    """An act with the fate of its message: sent at once, late, very late, or twice."""
    rng = who.rng
    delay = rng.uniform(0, 0.5) * MINUTE
    if door != "form":  # a browser posts a form at once, and once
        fate = rng.random()
        if fate < VERY_LATE:
            delay = rng.uniform(1, 6)
        elif fate < VERY_LATE + LATE:
            delay = rng.uniform(0.2, 12) * HOUR
    sent = at + delay
    copies = (sent + rng.uniform(0.001, 2),) if door != "form" and rng.random() < TWICE else ()
    return Act(who.index, "", at, sent, door, kind, fields, form, copies)


def _view(who: Person, at: float, seen: dict[str, Any], url: str, **more: Any) -> Act:
    door: Door = "segment" if who.rng.random() < 0.3 and not more else "events"
    return _act(who, at, door, "page_viewed", seen | {"url": url} | more)


def _reader(stage: int) -> Any:
    def read(world: World, who: Person, at: float, seen: dict[str, Any]) -> Iterator[Act]:
        pages = world.pages(stage)
        if not pages:
            return
        page = who.rng.choice(pages)
        yield _view(who, at, seen, page.url)
        if who.rng.random() < 0.3:
            kind = "video_watched" if "video" in page.format else "content_downloaded"
            yield _act(
                who,
                at + 2 * MINUTE,
                "events",
                kind,
                seen | {"content_id": page.content_id, "url": page.url},
            )

    return read


def _webinar(world: World, who: Person, at: float, seen: dict[str, Any]) -> Iterator[Act]:
    yield _act(who, at, "events", "webinar_registered", dict(seen))
    if who.rng.random() < 0.6:
        yield _act(who, at + who.rng.uniform(1, 6), "events", "webinar_attended", dict(seen))


def _pricing(world: World, who: Person, at: float, seen: dict[str, Any]) -> Iterator[Act]:
    url = world.urls.get("pricing_viewed", f"{world.website}/pricing")
    yield _act(who, at, "events", "pricing_viewed", seen | {"url": url})


def _asking(kind: str) -> Any:
    def ask(world: World, who: Person, at: float, seen: dict[str, Any]) -> Iterator[Act]:
        form = world.forms.get(kind, "")
        if form:
            yield _form(who, at, form, kind)
        else:
            yield _act(who, at, "events", kind, seen | {"email": who.email})
        yield from _identify(who, at, seen)

    return ask


def _talk(world: World, who: Person, at: float, seen: dict[str, Any]) -> Iterator[Act]:
    if who.known_since is None:
        return
    kind = who.rng.choice(("email_replied", "call_held", "meeting_held"))
    at += who.rng.uniform(0.2, 3)
    crm = {"email": who.email, "external_id": {"system": "crm", "id": who.crm_id}}
    if kind == "call_held":
        yield _act(who, at - 0.1, "events", "call_attempted", dict(crm))
    yield _act(who, at, "events", kind, crm)


def _social(world: World, who: Person, at: float, seen: dict[str, Any]) -> Iterator[Act]:
    yield _act(
        who,
        at,
        "events",
        who.rng.choice(("social_engaged", "ad_clicked")),
        seen | {"source": "social"},
    )


_ACTS: dict[str, Any] = {
    "read_curious": _reader(CURIOUS),
    "read_weighing": _reader(WEIGHING),
    "read_deciding": _reader(DECIDING),
    "webinar": _webinar,
    "pricing": _pricing,
    "enquiry": _asking("enquired"),
    "demo": _asking("demo_requested"),
    "talk": _talk,
    "social": _social,
}


def _leave_address(
    world: World, who: Person, at: float, seen: dict[str, Any], stage: int
) -> Iterator[Act]:
    """An anonymous visitor may become known; a known one's second device is found out in time."""
    rng = who.rng
    if who.known_since is None:
        if rng.random() >= LEAVES_ADDRESS[stage] * who.persona.openness:
            return
        gated = [page for page in world.pages(max(stage, CURIOUS)) if page.form]
        page = rng.choice(gated) if gated else None
        yield _form(who, at, page.form if page else "newsletter", "form_submitted")
    elif seen["anonymous_id"] in who.linked or rng.random() > 0.5:
        return
    yield from _identify(who, at + 0.2 * MINUTE, seen)


def _form(who: Person, at: float, form: str, kind: str) -> Act:
    who.known_since = at if who.known_since is None else who.known_since
    fields: dict[str, Any] = {"email": who.email} | who.traits
    if who.consents:
        fields |= {"consent": "yes"}
    return _act(who, at, "form", kind, fields, form)


def _identify(who: Person, at: float, seen: dict[str, Any]) -> Iterator[Act]:
    """The site's script tells who sits at this device."""
    if seen["anonymous_id"] in who.linked:
        return
    who.known_since = at if who.known_since is None else who.known_since
    who.linked.add(seen["anonymous_id"])
    fields = {"anonymous_id": seen["anonymous_id"], "email": who.email, "traits": dict(who.traits)}
    if who.user_id:
        fields["user_id"] = who.user_id
    door: Door = "segment" if who.user_id and who.rng.random() < 0.5 else "events"
    if door == "events" and who.consents:
        fields["consent"] = [
            {
                "channel": "email",
                "purpose": "marketing",
                "state": "given",
                "basis": "consent",
                "text": CONSENT_TEXT,
            }
        ]
    yield _act(who, at, door, "identified", fields)


def _outcome(who: Person, at: float) -> Iterator[Act]:
    """What sales tells of a lead that it took over."""
    if who.known_since is None:
        return
    crm: dict[str, Any] = {"email": who.email, "external_id": {"system": "crm", "id": who.crm_id}}
    yield _act(who, at, "events", "opportunity_opened", dict(crm))
    decided = at + who.rng.gammavariate(2, 4)
    if who.rng.random() < 0.55:
        yield _act(who, decided, "events", "won", dict(crm))
        yield _act(who, decided + HOUR, "events", "purchased", dict(crm))
    else:
        yield _act(who, decided, "events", "lost", dict(crm))


def answer_to_mail(who: Person, day: float, rng: random.Random) -> Literal["", "follow", "leave"]:
    """What a person does with a mail that came: nothing, follow its link, or leave the list."""
    stage = who.stage_at(day)
    if stage is None or who.left_at is not None:
        return ""
    fate = rng.random()
    if fate < LEAVES_BY_MAIL[stage]:
        return "leave"
    return (
        "follow"
        if fate < LEAVES_BY_MAIL[stage] + ANSWERS_MAIL[stage] * min(who.activity, 1.5)
        else ""
    )
