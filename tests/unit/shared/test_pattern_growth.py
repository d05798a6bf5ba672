"""What strangers write is read in linear time: every pattern of the product is tried over texts
that are made for it.
"""

import re
import time
from datetime import UTC, datetime

import pytest
from starlette.requests import Request

from services.ingest.mailbox.inbound import read
from services.shared.http.signin import cookie_of
from services.shared.logs import redact
from services.shared.playbook.urls import Glob, UrlMatcher
from tests.support.patterns import Used, attacks, is_linear, used_patterns


def grown(*, deep: bool = False) -> list[str]:
    """The patterns over which a text takes more than linear time, with that text."""
    return [
        f"{used.where} {used.method} {used.pattern.pattern!r}: {attack}"
        for used in used_patterns()
        if (
            attack := next(
                (each for each in attacks(used.pattern, deep=deep) if not is_linear(used, each)),
                None,
            )
        )
    ]


def test_no_pattern_grows_faster_than_its_text() -> None:
    """Bad input: a pattern that is worse than linear is a door that one request closes."""
    assert grown() == []


@pytest.mark.long
def test_no_pattern_grows_faster_than_its_text_by_many_more_texts() -> None:
    assert grown(deep=True) == []


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^<>]*>", "finditer"), (r"\{\{.*?\}\}", "finditer"),
        (r"\s*(?:[a-z]{1,3})?\s*(-?\d[\d.,\s]*)\s*", "fullmatch"), (r"[^\s@]+@", "finditer"),
        (r"(a+)+b", "match"), (r"[.!?]+(?=\s|$)", "finditer"),
    ],
)  # fmt: skip
def test_patterns_of_more_than_linear_time_are_seen(pattern: str, method: str) -> None:
    """The control, without which the tests above show nothing."""
    used = Used("here", re.compile(pattern), method)
    assert not all(is_linear(used, attack) for attack in attacks(used.pattern))


def test_a_glob_is_what_its_pattern_says() -> None:
    glob = Glob("a.example/*/trust/*end")
    for fits in (
        "a.example/x/trust/end", "a.example/x/trust/1/end", "a.example//trust/end?q=1",
        "a.example/x/trust/end?q=end", "a.example/trust/trust/end",
    ):  # fmt: skip
        assert glob.matches(fits)
    for other in ("a.example/trust/end", "b.example/x/trust/end", "a.example/x/trust/ending"):
        assert not glob.matches(other)
    assert [Glob("a*a").matches(each) for each in ("a", "aa", "aba?a")] == [False, True, True]


def test_addresses_made_for_a_glob_are_compared_at_once() -> None:
    """32 KB of such addresses once held the scorer for two minutes."""
    pages = UrlMatcher([("*/trust/*/trust/*/trust/*x", "trust"), ("*a*b*c*d", "letters")])
    began = time.process_time()
    for url in ("https://www.a.example" + "/trust/?" * 4_000, "ab" * 16_000, "abc" * 11_000):
        assert pages.find(url) is None
    assert time.process_time() - began < 1


def test_a_long_word_is_logged_at_once_and_addresses_and_keys_never() -> None:
    began = time.process_time()
    event = redact(
        None, "", {"a": "a" * 100_000, "b": "a@" * 50_000, "c": "see <ann@x.example>, rl_ab_cd"}
    )
    assert time.process_time() - began < 1
    assert event["c"] == "see <…@…>, rl_…"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ('Content-Type: text/plain; a="' + ";" * 60_000, "x"),
        ("Content-Type: text/plain" + ";a=b" * 15_000, "x"),
        ("Content-Type: text/html", "<" + "a" * 60_000),
        ("Content-Type: text/html", "<!" * 30_000),
        ("Content-Type: text/html", "&#" + "1" * 60_000),
        ("Content-Type: text/plain", ("On " + "1" * 80 + " wrote" * 40 + "\n") * 190),
        ("Content-Type: text/plain", "!" * 60_000 + "x"),
        ("Content-Type: text/plain", "stop remove my " * 4_000),
        ("Subject: " + "=?a?q?" * 10_000, "x"),
        ("Subject: re" + " " * 60_000, "x"),
        ("From: " + "(" * 30_000 + '"\\' * 15_000, "x"),
        ("From: " + "noreply" * 8_000, "x"),
        ("From: mailer-daemon@x.example", "user " * 12_000),
    ],
)
def test_a_mail_made_to_be_slow_is_read_at_once(headers: str, body: str) -> None:
    """Everybody may write to us. The slowest of these once took 17 s."""
    began = time.process_time()
    read(f"From: ann@acme.example\n{headers}\n\n{body}".encode(), datetime.now(UTC))
    assert time.process_time() - began < 1


def test_a_cookie_made_to_be_slow_is_read_at_once() -> None:
    """Python's own reader took 3.7 s for it."""
    slow = 'a="' + '\\"' * 30_000 + '"; mine=1.2; other='
    request = Request({"type": "http", "headers": [(b"cookie", slow.encode())]})
    began = time.process_time()
    assert [cookie_of(request, name) for name in ("mine", "other", "none")] == ["1.2", "", ""]
    assert time.process_time() - began < 0.5
