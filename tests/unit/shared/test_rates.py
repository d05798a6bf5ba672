"""Limits of requests: exact within a window, announced in header fields, bounded in memory."""

import time

import pytest
from pydantic import ValidationError
from starlette.requests import Request

from services.shared.errors import Reject
from services.shared.http.rates import RateLimit, RateLimits, TooManyRequests, network_of
from services.shared.settings import Settings


def request_from(host: str | None) -> Request:
    """A request from an address."""
    return Request({"type": "http", "client": (host, 5000) if host else None, "headers": []})


def refusals(rate: RateLimit, sender: str, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            rate.count(sender)
        except TooManyRequests:
            count += 1
    return count


def test_so_many_are_taken_in_a_window_of_each_sender() -> None:
    rate = RateLimit("key", "10/minute")
    assert refusals(rate, "a", 15) == 5
    assert refusals(rate, "b", 10) == 0


def test_a_new_window_begins_when_the_old_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, now = RateLimit("key", "2/10seconds"), time.monotonic()
    assert refusals(rate, "a", 3) == 1
    monkeypatch.setattr(time, "monotonic", lambda: now + 9.9)
    assert refusals(rate, "a", 1) == 1
    monkeypatch.setattr(time, "monotonic", lambda: now + 10.1)
    assert refusals(rate, "a", 3) == 1


def test_the_header_fields_are_those_of_the_draft() -> None:
    """draft-ietf-httpapi-ratelimit-headers: lists of quoted names with q and w, and with r
    and t.
    """
    rate = RateLimit("address", "2/10seconds")
    assert list(rate.count("a")) == [
        (b"ratelimit-policy", b'"address";q=2;w=10'),
        (b"ratelimit", b'"address";r=1;t=10'),
    ]
    rate.count("a")
    with pytest.raises(TooManyRequests) as refused:
        rate.count("a")
    assert refused.value.headers == [
        (b"ratelimit-policy", b'"address";q=2;w=10'),
        (b"ratelimit", b'"address";r=0;t=10'),
        (b"retry-after", b"10"),
    ]


def test_distinct_senders_without_end_take_no_more_memory_than_some_thousands() -> None:
    """Cardinality: the first sender is forgotten, and the last is still counted right."""
    rate = RateLimit("address", "3/hour", max_senders=5_000)
    for number in range(300_000):
        rate.count(f"11.{number}")
    assert len(rate._windows) == 5_000
    assert refusals(rate, "11.299999", 3) == 1


def test_windows_that_have_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, now = RateLimit("address", "3/second"), time.monotonic()
    for number in range(100):
        rate.count(str(number))
    monkeypatch.setattr(time, "monotonic", lambda: now + 2)
    rate.count("new")
    assert len(rate._windows) == 1


@pytest.mark.parametrize(
    ("host", "sender"),
    [
        ("203.0.113.9", "203.0.113.9"), ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), (None, ""),
        ("unknown", "unknown"),
        ("x" * 1000, "x" * 64),
    ],
)  # fmt: skip
def test_one_sender_is_an_address_or_a_network_of_64_bits(host: str | None, sender: str) -> None:
    assert network_of(request_from(host)) == sender


def test_guessing_is_counted_and_other_mistakes_are_not() -> None:
    rates = RateLimits(Settings(rate_per_address="2/minute"))
    wrong, typo = Reject("no", kind="unauthorized"), Reject("no", kind="invalid")
    kinds = [
        rates.limit_guessing(request_from("203.0.113.1"), reject).kind
        for reject in (typo, typo, typo, wrong, wrong, wrong, typo)
    ]
    assert kinds == ["invalid"] * 3 + ["unauthorized"] * 2 + ["too-many", "invalid"]


def test_no_words_are_no_limit() -> None:
    rates = RateLimits(Settings(rate_per_key="", rate_per_address=""))
    assert [rates.count_key("a"), rates.count_address(request_from("203.0.113.1"))] == [(), ()]


@pytest.mark.parametrize("words", ["often", "0/second", "5/fortnight", "/second"])
def test_words_that_are_no_limit_are_refused_at_start(words: str) -> None:
    with pytest.raises(ValidationError, match="for no limit"):
        Settings(rate_per_key=words)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example", ""])
def test_what_is_no_network_is_no_trusted_proxy(network: str) -> None:
    with pytest.raises(ValidationError):
        Settings(trusted_proxies=[network])
