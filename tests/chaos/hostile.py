"""What a stranger posts who has read the public key out of a page: bodies for `/v1/events`."""

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from tests.support import present

Items = list[dict[str, Any]]
PUMPS = ("/trust/?", "/a?/a?", "?utm_source=&", "//", "%25")  # of patterns that look for paths
ODD = "\t\x01\x0b\x1f\x7f\u2028\u202e"
DOMAIN = "stranger.example"
ENDLESS, RENEWALS, TRAITS = 1_500, 150, 60
LONG, LONGER = 7_900, 32_000  # characters: just taken, and far too long


def bodies(rng: random.Random) -> list[Items]:
    """Bodies of items in any order; ids are unique and begin with `hostile-`."""
    items = [*_odd(), *_pumps(), *_traits(), *_endless(rng), *_reserved(), *_renewed()]
    rng.shuffle(items)
    numbered = [
        {"id": f"hostile-{n}", "occurred_at": _some_time(rng), **item}
        for n, item in enumerate(items)
    ]
    return [numbered[i : i + 40] for i in range(0, len(numbered), 40)]


def oversized() -> list[Items]:
    """Bodies over the limits of an item and of a request, in texts that are not cut."""
    return [
        [_page("big", properties={f"text-{n}": "x" * 8_000 for n in range(size // 8_000)})]
        for size in (600_000, 6_000_000)
    ]


def _odd() -> Iterator[dict[str, Any]]:
    """Separators and control characters wherever text is taken."""
    for n in range(20):
        consent = {"channel": f"e{ODD}mail", "purpose": f"{ODD}{n}\t", "state": "given"}
        yield _page(f"odd{n % 4}", consent=[consent], traits={f"na{ODD}me": ODD, "first_name": ODD})
        yield _page(f"odd{n % 4}", user_id=f"us{ODD}er{n % 4}", source=ODD, campaign=f"\t{ODD}")
        yield _page(
            f"odd{n % 4}",
            url=f"https://e.example/{ODD}",
            external_id={"system": f"s{n}", "id": f"a\tb{ODD}"},
        )


def _pumps() -> Iterator[dict[str, Any]]:
    """Addresses on which a pattern that is worse than linear takes minutes."""
    for n, pump in enumerate(PUMPS * 2):
        for size in (LONG, LONGER):
            url = ("https://e.example" + pump * size)[:size]
            yield _page(f"pump{n}", url=url, properties={"title": "<" + "a" * 4_000, "page": url})
    yield _page("cut", properties={"text": "x" * 600_000})


def _traits() -> Iterator[dict[str, Any]]:
    """More traits and consents than a message to a broker holds, on one lead."""
    for n in range(TRAITS):
        traits = {f"trait-{n}-{i}": "v" * 100 for i in range(200)}
        consent = [{"channel": f"c{n}-{i}", "purpose": "p", "state": "given"} for i in range(20)]
        yield _page("traits", traits=traits, consent=consent)


def _endless(rng: random.Random) -> Iterator[dict[str, Any]]:
    for _ in range(ENDLESS):
        yield {"type": rng.choice(("page_viewed", "pricing_viewed")), "anonymous_id": "endless"}


def _reserved() -> Iterator[dict[str, Any]]:
    """What only a signed sender, our own link or Ripeline itself can know."""
    for n in range(10):
        for type_ in ("email_bounced", "email_complained", "touch_sent", "link_clicked"):
            yield _page(f"reserved{n}") | {"type": type_, "properties": {"type": "hard"}}
        consent = {"channel": "email", "state": "given", "basis": "double_opt_in"}
        yield _page(f"reserved{n}", consent=[consent])


def _renewed() -> Iterator[dict[str, Any]]:
    """One address that is linked to more and more users."""
    for n in range(RENEWALS):
        yield _page("renewed", user_id=f"renewed-{n}", anonymous_id=f"renewed-{n % 7}")


def _page(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "page_viewed", "email": f"{name}@{DOMAIN}", **more}


def _some_time(rng: random.Random) -> str:
    return (present.now() - timedelta(minutes=rng.randrange(60, 9000))).isoformat()
