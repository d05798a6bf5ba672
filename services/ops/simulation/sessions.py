"""What simulated people do in one visit to the site, from their own random numbers."""

from collections.abc import Callable, Iterator
from typing import Any

from services.ops.simulation.people import MINUTE, Act, Endpoint, Person, new_act
from services.ops.simulation.personas import CONSENT_TEXT, GIVES_ADDRESS, IN_A_SESSION
from services.ops.simulation.world import CURIOUS, DECIDING, QUIET, WEIGHING, World

# what a person of a world does at a moment, as the visitor that the site knows
Doing = Callable[[World, Person, float, dict[str, Any]], Iterator[Act]]


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


def _view(person: Person, at: float, visitor: dict[str, Any], url: str, **more: Any) -> Act:
    endpoint: Endpoint = "segment" if person.rng.random() < 0.3 and not more else "events"
    return new_act(person, at, endpoint, "page_viewed", visitor | {"url": url} | more)


def _reading(stage: int) -> Doing:
    def read(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
        pages = world.pages(stage)
        if not pages:
            return
        page = person.rng.choice(pages)
        yield _view(person, at, visitor, page.url)
        if person.rng.random() < 0.3:
            kind = "video_watched" if "video" in page.format else "content_downloaded"
            yield new_act(
                person,
                at + 2 * MINUTE,
                "events",
                kind,
                visitor | {"content_id": page.content_id, "url": page.url},
            )

    return read


def _webinar(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    yield new_act(person, at, "events", "webinar_registered", dict(visitor))
    if person.rng.random() < 0.6:
        yield new_act(
            person, at + person.rng.uniform(1, 6), "events", "webinar_attended", dict(visitor)
        )


def _pricing(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    url = world.urls.get("pricing_viewed", f"{world.website}/pricing")
    yield new_act(person, at, "events", "pricing_viewed", visitor | {"url": url})


def _request(kind: str) -> Doing:
    def ask(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
        form = world.forms.get(kind, "")
        if form:
            yield _form(person, at, form, kind)
        else:
            yield new_act(person, at, "events", kind, visitor | {"email": person.email})
        yield from _identify(person, at, visitor)

    return ask


def _talk(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    if person.known_since is None:
        return
    kind = person.rng.choice(("email_replied", "call_held", "meeting_held"))
    at += person.rng.uniform(0.2, 3)
    crm = {"email": person.email, "external_id": {"system": "crm", "id": person.crm_id}}
    if kind == "call_held":
        yield new_act(person, at - 0.1, "events", "call_attempted", dict(crm))
    yield new_act(person, at, "events", kind, crm)


def _social(world: World, person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    yield new_act(
        person,
        at,
        "events",
        person.rng.choice(("social_engaged", "ad_clicked")),
        visitor | {"source": "social"},
    )


_ACTS: dict[str, Doing] = {
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
    return new_act(person, at, "form", kind, fields, form)


def _identify(person: Person, at: float, visitor: dict[str, Any]) -> Iterator[Act]:
    """The site's script links the device to the person."""
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
        fields["consent"] = [given_consent("consent")]
    yield new_act(person, at, endpoint, "identified", fields)


def given_consent(basis: str) -> dict[str, str]:
    """A consent to mails, as canonical events carry it."""
    given = {"channel": "email", "purpose": "marketing", "state": "given"}
    return given | {"basis": basis, "text": CONSENT_TEXT}
