"""Expressions: the functions beside JMESPath's own, and what is wrong with one before it
sees data.
"""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.shared.errors import Reject
from services.shared.playbook.expressions import (
    ChallengeFunctions,
    Expression,
    RequestFunctions,
    datetime_of,
    expression_error,
    snake,
)

ASKED = RequestFunctions({"kind": "x"}, {"x-topic": "orders/create"}, {"page": "2"})


def value(text: str, given: Any = None) -> Any:
    return Expression(text, "/here")(given, ASKED)


@pytest.mark.parametrize(
    ("text", "given", "result"),
    [
        ("body().kind", {}, "x"),
        ("header('X-Topic')", {}, "orders/create"),
        ("header('none')", {}, None),
        ("query('page')", {}, "2"),
        ("time(a)", {"a": 1767323045}, "2026-01-02T03:04:05Z"),
        ("time(a)", {"a": "1767323045678"}, "2026-01-02T03:04:05.678000Z"),
        ("time(a)", {"a": "2026-01-02T03:04:05+0200"}, "2026-01-02T01:04:05Z"),
        ("time(a)", {}, None),
        ("snake(a)", {"a": "Demo Requested"}, "demo_requested"),
        ("lower(a)", {"a": "ÄB"}, "äb"),
        ("lower(b)", {}, None),
        ("first_word(a)", {"a": " Zoë van der Miller "}, "Zoë"),
        ("other_words(a)", {"a": " Zoë van der Miller "}, "van der Miller"),
        ("[first_word(a), other_words(a)]", {"a": "Zoë"}, ["Zoë", None]),
        (
            "named(a, 'q', 'v')",
            {"a": [{"q": "Company size", "v": 3}, {"q": 4, "v": 1}, 7]},
            {"company_size": 3},
        ),
        ("named(a, 'q', 'v')", {}, {}),
        ("without(@, ['a'])", {"a": 1, "b": 2}, {"b": 2}),
    ],
)
def test_a_function_gives(text: str, given: Any, result: Any) -> None:
    assert value(text, given) == result


@pytest.mark.parametrize(
    "text",
    ["lower(@)", "time('soon')", "ceil(to_number('inf'))", "without(@, ['a'])", "join('', @)"],
)
def test_an_expression_that_fails_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(Reject, match="the expression failed") as refused:
        value(text, 5)
    assert refused.value.where == "/here"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (1767323045.5, datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_every_usual_form(given: Any, expected: datetime) -> None:
    assert datetime_of(given) == expected


@pytest.mark.parametrize(
    "given", ["", "tomorrow", "inf", "nan", 1e300, -(10**30), "9" * 400, "2026-13-01"]
)
def test_what_is_no_moment_is_a_value_error(given: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each parser has words of its own
        datetime_of(given)


def test_names_in_snake_case() -> None:
    assert [snake(name) for name in ("Job title", "jobTitle", "Größe?", "***", "")] == [
        "job_title",
        "job_title",
        "größe",
        "***",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.b[?c == 'd'] | [0]", ""),
        ("merge(named(a, 'b', 'c'), {d: time(e)})", ""),
        ("a..b", "no JMESPath expression"),
        ("'open", "no JMESPath expression"),
        ("", "no JMESPath expression"),
        ("a.{b: shout(c)}", "no function shout()"),
        ("time()", "time() takes 1, not 0"),
        ("merge()", "merge() takes 1 or more, not 0"),
        ("hmac(a)", "no function hmac()"),
    ],
)
def test_a_problem_is_seen_before_any_data(text: str, problem: str) -> None:
    assert expression_error(text).startswith(problem)
    assert bool(expression_error(text)) == bool(problem)


def test_an_unsigned_first_call_gets_plain_tokens_signed_and_no_event() -> None:
    assert expression_error("hmac(a)", ChallengeFunctions) == ""
    asking = Expression("hmac(@)", "/challenge")
    unsigned, signed = (ChallengeFunctions("s", known, None, {}, {}) for known in (False, True))
    assert asking("b7b2a0f0-7d2f-4f5e-9d0a-1f6d7e8c9b0a", unsigned) == asking(
        "b7b2a0f0-7d2f-4f5e-9d0a-1f6d7e8c9b0a", signed
    )
    for forged in ("hmacsha256={}", '{"type":"won"}', "v0:1767323045:{}", "a" * 129, ""):
        with pytest.raises(Reject):
            asking(forged, unsigned)
    assert len(asking("anything at all", signed)) == 64
