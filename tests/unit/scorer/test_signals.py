"""Signals by family: names, who else of an account acts, and intervals by resampling groups."""

import numpy as np
import pytest

from services.scorer.learning import families, measures, shares, signals
from services.scorer.learning.histories import History
from services.scorer.learning.moments import moments


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("content_downloaded", "content"), ("content_decision", "content"),
        ("webinar_attended", "content"), ("link_clicked", "content"), ("page_viewed", "pages"),
        ("pricing", "pages"), ("TotalVisits", "pages"), ("Page Views Per Visit", "pages"),
        ("email_opened", "mail"), ("click", "mail"), ("email_replied", "replies"),
        ("meeting_held", "meetings"), ("conversation", "meetings"), ("demo_requested", "requests"),
        ("enquiry", "requests"), ("unsubscribed", "other acts"), ("6", "other acts"),
    ],
)  # fmt: skip
def test_types_have_families(name: str, family: str) -> None:
    assert families.of_act(name) == family


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Job title", "seniority"), ("seniority", "seniority"), ("buying_group", "breadth"),
        ("champion", "sales notes"), ("Urgency", "sales notes"), ("mood", "sales notes"),
        ("industry", "attributes"), ("Total Time Spent on Website", "pages"),
    ],
)  # fmt: skip
def test_traits_have_families(name: str, family: str) -> None:
    assert families.of_trait(name) == family


@pytest.mark.parametrize(
    ("title", "rank"),
    [
        ("CTO", "chief"), ("Geschäftsführerin", "chief"), ("VP Sales", "director"),
        ("Head of IT", "director"), ("Product Manager", "manager"), ("Student", "junior"),
        ("Physicist", "other"), ("", ""),
    ],
)  # fmt: skip
def test_titles_have_ranks(title: str, rank: str) -> None:
    assert families.seniority(title) == rank


def history(*days: float) -> History:
    return History(np.array(days), np.zeros(len(days), np.int64), 300.0, False)


def test_others_of_the_account_count_from_their_first_act_and_for_a_while() -> None:
    """At days 10 and 100 of the first lead; one colleague comes on day 5, another on day 90."""
    own = [history(0.0), history(5.0), history(90.0), history(5.0)]
    when = moments(own[:1], [10.0, 100.0], 60.0, 300.0)
    found = signals.breadth(own, ["a", "a", "a", ""], when)
    assert np.expm1(found[:, 0]).tolist() == pytest.approx([1, 2])
    assert np.expm1(found[:, 1]).tolist() == pytest.approx([1, 1])
    alone = signals.breadth(own, ["", "a", "a", ""], when)
    assert not alone.any()


def test_sales_takes_the_likeliest_of_each_week_once() -> None:
    """Lead 1 is likeliest in both weeks and worked in the first; lead 3 comes in the second."""
    lead, at = np.array([1, 2, 1, 2, 3]), np.array([4.0, 5.0, 11.0, 12.0, 13.0])
    p = np.array([0.9, 0.2, 0.95, 0.3, 0.4])
    outcome = np.array([False, True, True, True, True])
    one = measures.at_capacity(outcome, p, at, lead, 1)
    assert one == measures.AtCapacity(1, 2, 2, 0.5)
    every = measures.at_capacity(outcome, p, at, lead, 9)
    assert (every.taken, every.precision) == (3, 2 / 3)
    untimed = measures.at_capacity(outcome, p, np.full(5, np.nan), lead, None)
    assert untimed == measures.AtCapacity(None, 1, 1, 1.0)


def test_resampled_aucs_are_those_of_the_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    group, p = rng.integers(0, 40, 300), rng.random(300).round(1)
    outcome = rng.random(300) < p
    draws = shares.Draws(group, rng)
    found = shares.auc_draws(outcome, p, draws)
    for times, value in list(zip(draws.times, found, strict=True))[:20]:
        rows = np.repeat(np.arange(300), times[draws.place].astype(int))
        assert value == pytest.approx(measures.auc(outcome[rows], p[rows]))
        assert draws.means(p)[0] == pytest.approx(
            np.repeat(p, draws.times[0][draws.place].astype(int)).mean()
        )
