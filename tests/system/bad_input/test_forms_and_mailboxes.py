"""Forms filled in by robots, and mailboxes that are no person."""

import uuid

from tests.support.refusals import refused
from tests.support.running_system import System


def test_a_role_mailbox_is_a_lead_that_joins_nobody(system: System) -> None:
    """D2: two visitors who write as info@ stay two leads."""
    role_address, visitors = (
        f"info@{uuid.uuid4().hex}.example",
        [uuid.uuid4().hex for _ in range(2)],
    )
    for visitor in visitors:
        system.post_event(type="page_viewed", anonymous_id=visitor)
        system.post_event(type="form_submitted", anonymous_id=visitor, email=role_address)
    shared = system.wait_for_lead(2, email=role_address)
    anonymous = [system.wait_for_lead(anonymous_id=visitor) for visitor in visitors]
    assert len({shared["id"], *(lead["id"] for lead in anonymous)}) == 3
    assert [lead["events_counted"] for lead in anonymous] == [1, 1]


def test_a_form_with_a_filled_trap_is_thanked_and_forgotten(system: System) -> None:
    robot, person = system.address("robot"), system.address("person")
    forms = f"{system.ingest}/v1/forms/contact"
    for email, trap in ((robot, "http://spam.example"), (person, "")):
        answer = system.http.post(
            forms, params={"key": system.keys["public"]}, data={"email": email, "_hp": trap}
        )
        assert answer.status_code == 200
        assert "Thank you" in answer.text
    system.wait_for_lead(email=person)
    assert system.lookup(email=robot) is None


def test_a_form_leads_to_allowed_pages_only_and_is_not_kept_otherwise(system: System) -> None:
    email, thanks = system.address(), f"{system.site.url}/thanks"
    host = system.site.url.removeprefix("http://")
    away = [
        "https://evil.example/", "//evil.example", "javascript:alert(1)",
        f"http://{host}@evil.example/thanks",
        f"http://{host}.evil.example/thanks", f"{thanks}/../admin", f"{system.site.url}/other",
        f"{thanks}\r\nX: y",
        "http://[", f"https://{host}/thanks", f"http:\\\\{host}\\thanks",
    ]  # fmt: skip
    url, key = f"{system.ingest}/v1/forms/contact", {"key": system.keys["public"]}
    for page in away:
        refused(
            system.http.post(url, params=key, data={"email": email, "_next": page}),
            400,
            "invalid",
            "/_next",
        )
    sound = system.http.post(url, params=key, data={"email": email, "_next": f"{thanks}?from=form"})
    assert (sound.status_code, sound.headers["location"]) == (303, f"{thanks}?from=form")
    assert system.wait_for_lead(email=email)["events_counted"] == 1
