"""Tokens of forms and of mails: forged, borrowed, old, exchanged."""

import time
import uuid

from services.ingest.http import form_token
from services.shared.contracts.link_tokens import LinkClaim, UnsubscribeClaim, sign
from tests.support.ingest_process import PEPPER, IngestProcess
from tests.support.refusals import refused


def token_of(ingest: IngestProcess, form: str) -> str:
    """What a page gets when it shows a form."""
    answer = ingest.http.get(
        f"{ingest.url}/v1/forms/{form}/token", params={"key": ingest.keys["public"]}
    )
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["token"])


def test_a_form_filled_in_at_once(ingest: IngestProcess) -> None:
    """A robot is thanked and forgotten, so that it learns nothing; a person is kept."""
    token = token_of(ingest, "demo")
    fields = {"email": "robot@signed.example", "_token": token}
    before = ingest.metric("ripeline_interactions_refused_total", source="forms", kind="too-quick")
    with ingest.publishes_nothing():
        answer = ingest.post("/v1/forms/demo", "public", data=fields)
        assert (answer.status_code, "Thank you" in answer.text) == (200, True)
    assert (
        ingest.metric("ripeline_interactions_refused_total", source="forms", kind="too-quick")
        == before + 1
    )
    time.sleep(form_token.QUICKEST_S)
    before_person = ingest.count_published()
    assert ingest.post("/v1/forms/demo", "public", data=fields).status_code == 200
    assert ingest.count_published() > before_person


def test_a_forged_borrowed_or_old_form_token(ingest: IngestProcess) -> None:
    pepper, now = PEPPER.encode(), time.time()
    sound = token_of(ingest, "demo")
    wrong = [
        sound[:-2] + ("AA" if sound[-2:] != "AA" else "BB"), "x", "A" * 32, "é", sound + "AAAA",
        form_token.issue(b"another pepper", "demo", now - 60), form_token.issue(pepper, "demo",
        now - 25 * 3600),
        form_token.issue(pepper, "contact", now - 60),
    ]  # fmt: skip
    with ingest.publishes_nothing():
        for token in wrong:
            answer = ingest.post(
                "/v1/forms/demo", "public", data={"email": "a@b.example", "_token": token}
            )
            refused(answer, 400, "form-token", "/_token")


def test_a_form_without_a_token_where_one_is_required(strict: IngestProcess) -> None:
    refused(
        strict.post("/v1/forms/demo", "public", data={"email": "a@b.example"}),
        400,
        "form-token",
        "/_token",
    )


def test_the_unsubscribe_token_of_another_lead(ingest: IngestProcess) -> None:
    """It takes out the address that it was made for; nothing in it can be exchanged, and a link's
    token is no way out.
    """
    pepper, touch = PEPPER.encode(), str(uuid.uuid4())
    mine = sign(pepper, UnsubscribeClaim(touch, "ab" * 16))
    theirs = sign(b"another pepper", UnsubscribeClaim(touch, "cd" * 16))
    click = sign(pepper, LinkClaim(touch, "guide", "https://www.example.com/"))
    other = sign(pepper, UnsubscribeClaim(touch, "cd" * 16))
    crossed = mine[:22] + other[22:]
    with ingest.publishes_nothing():
        for token in (theirs, click, crossed, mine[:-1], mine + "A", mine.swapcase()):
            refused(ingest.http.post(f"{ingest.url}/u/{token}"), 404, "not-found", "token")
            refused(ingest.http.get(f"{ingest.url}/u/{token}"), 404, "not-found", "token")
        assert (
            ingest.http.get(f"{ingest.url}/u/{mine}").status_code == 200
        )  # looking changes nothing
    before = ingest.count_published()
    assert (
        ingest.http.post(
            f"{ingest.url}/u/{mine}", data={"List-Unsubscribe": "One-Click"}
        ).status_code
        == 200
    )
    assert ingest.count_published() > before


def test_a_tracked_link_that_leads_elsewhere(ingest: IngestProcess) -> None:
    """No open redirect: an address that we did not sign is not followed, nor one beside it."""
    claim = LinkClaim(str(uuid.uuid4()), "guide", "https://www.example.com/guide")
    for token in (sign(b"another pepper", claim), "https://evil.example", "..%2f..%2fetc"):
        refused(ingest.http.get(f"{ingest.url}/l/{token}"), 404, "not-found")
    sound = ingest.http.get(
        f"{ingest.url}/l/{sign(PEPPER.encode(), claim)}?to=https://evil.example&url=//evil.example"
    )
    assert sound.status_code == 302
    assert "evil" not in sound.headers["location"]
