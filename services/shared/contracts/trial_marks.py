"""The mark of a request that is a test of ours, which changes no lead: sealed, so that nobody else
makes one, and good for some minutes.
"""

import hmac

HEADER = "x-ripeline-test"
GOOD_FOR_S = 300


def mark(pepper: bytes, now: float) -> str:
    """A mark from `now` (seconds since 1970) on."""
    until = str(int(now) + GOOD_FOR_S)
    return f"{until}.{_seal(pepper, until)}"


def is_ours(pepper: bytes, given: str, now: float) -> bool:
    """Whether that is a mark of this installation that is still good."""
    until, _, seal = given.partition(".")
    if not (until.isascii() and until.isdigit() and len(until) <= 12):
        return False
    sealed = hmac.compare_digest(seal.encode(), _seal(pepper, until).encode())
    return sealed and now <= int(until)


def _seal(pepper: bytes, until: str) -> str:
    return hmac.digest(pepper, f"test\0{until}".encode(), "sha256").hex()
