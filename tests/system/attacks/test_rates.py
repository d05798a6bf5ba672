"""Floods: 429 for whoever asks too often, and nobody else held up."""

import re
import time
import uuid

from services.shared.contracts.link_tokens import UnsubscribeClaim, sign
from tests.support.ingest_process import PEPPER, REFRESHED_S, IngestProcess
from tests.support.refusals import visit
from tests.system.attacks.limits import PER_ADDRESS, PER_KEY, WINDOW_S, too_many


def test_a_key_that_asks_too_often(strict: IngestProcess) -> None:
    """A flood with a good key; others are not held up by it, and after its window it goes on."""
    noisy, quiet = (
        {"Authorization": f"Bearer {strict.new_key('secret', name=name)}"}
        for name in ("noisy", "quiet")
    )
    time.sleep(REFRESHED_S)
    answers = [
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=noisy)
        for _ in range(PER_KEY + 2)
    ]
    assert [answer.status_code for answer in answers] == [200] * PER_KEY + [429] * 2
    assert answers[0].headers["ratelimit"] == f'"key";r={PER_KEY - 1};t={WINDOW_S}'
    too_many(answers[-1], "key", PER_KEY)
    assert (
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=quiet).status_code == 200
    )
    assert strict.metric("ripeline_requests_limited_total", limit="key") >= 2
    time.sleep(WINDOW_S)
    assert (
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=noisy).status_code == 200
    )


def test_keys_guessed_again_and_again(strict: IngestProcess) -> None:
    """From one address; who holds a key comes in from there all the same."""
    key = strict.new_key("secret", name="holder")
    time.sleep(REFRESHED_S)
    wrong = {"Authorization": f"Bearer rl_0123456789ab_{'x' * 43}"}
    answers = [
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=wrong) for _ in range(7)
    ]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    too_many(answers[-1], "address", PER_ADDRESS)
    right = {"Authorization": f"Bearer {key}"}
    assert (
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=right).status_code == 200
    )


def test_a_page_that_posts_too_often(strict: IngestProcess) -> None:
    """Events and forms with a public key count for the address from which they come, together."""
    public = strict.key("public")
    token = strict.http.get(f"{strict.url}/v1/forms/demo/token", headers=public).json()["token"]
    filled = {"email": "a@b.example", "_token": token, "_hp": "x"}
    calls = [
        lambda: strict.http.post(f"{strict.url}/v1/forms/demo", data=filled, headers=public),
        lambda: strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=public),
    ]
    statuses = [calls[number % 2]().status_code for number in range(6)]
    assert statuses == [200] * 4 + [429] * 2
    time.sleep(WINDOW_S)
    assert calls[1]().status_code == 200


def test_the_way_out_asked_for_too_often(strict: IngestProcess) -> None:
    """Unsubscribing needs no key, so it counts for the address; what an address may say is never in
    the way of one person.
    """
    tokens = [
        sign(PEPPER.encode(), UnsubscribeClaim(str(uuid.uuid4()), f"{number:032x}"))
        for number in range(6)
    ]
    answers = [strict.http.post(f"{strict.url}/u/{token}") for token in tokens]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= WINDOW_S


def test_a_forged_x_forwarded_for(ingest: IngestProcess, strict: IngestProcess) -> None:
    """Without a trusted proxy nobody is believed; with one, the address that it saw itself,
    whatever stands before it.
    """
    wrong = {"Authorization": f"Bearer rl_0123456789ab_{'x' * 43}"}

    def guess(forwarded: str) -> int:
        headers = wrong | {"X-Forwarded-For": forwarded}
        return strict.http.post(
            f"{strict.url}/v1/events", json=visit(), headers=headers
        ).status_code

    assert [guess(f"198.51.100.{number}, 203.0.113.9, 10.1.2.3") for number in range(7)] == [
        401
    ] * 5 + [429] * 2
    assert guess("203.0.113.9, 203.0.113.10") == 401
    six = [guess(f"2001:db8:1:2:{number:x}::1") for number in range(7)]
    assert six == [401] * 5 + [429] * 2
    assert guess("2001:db8:1:3::1") == 401
    public = ingest.key("public")
    before = [ingest.http.post(f"{ingest.url}/v1/events", json=visit(),
    headers=public | {"X-Forwarded-For": f"203.0.113.{n}"})
              for n in (1, 2)]  # fmt: skip
    standing = [
        int(re.findall(r'"address";r=(\d+)', answer.headers["ratelimit"])[0]) for answer in before
    ]
    assert standing[1] == standing[0] - 1 or standing[1] == 999
