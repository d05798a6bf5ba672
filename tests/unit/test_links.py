"""Signed links in mails: they say what we signed, and nothing else can be made of them."""

import pytest

from services.shared.errors import Reject
from services.shared.links import LinkClaim, UnsubscribeClaim, open_token, sign

PEPPER = b"pepper"
LINK = LinkClaim("11111111-1111-4111-8111-111111111111", "guide", "https://www.example.com/guide?a=1&b=ü")
LEAVE = UnsubscribeClaim(LINK.touch_id, "ab" * 16)


@pytest.mark.parametrize("claim", [LINK, LEAVE])
def test_a_token_gives_back_what_was_signed(claim: LinkClaim | UnsubscribeClaim) -> None:
    """I7: a click says which touch it answers."""
    token = sign(PEPPER, claim)
    assert open_token(PEPPER, token) == claim
    assert token.replace("-", "").replace("_", "").isalnum()


def test_a_flipped_character_or_another_pepper_opens_nothing() -> None:
    token = sign(PEPPER, LEAVE)
    swapped = "A" if token[3] != "A" else "B"
    for wrong in (token[:3] + swapped + token[4:], token[:-4], token + "AAAA", "", "ü", "=", "x" * 10_000):
        with pytest.raises(Reject) as caught:
            open_token(PEPPER, wrong)
        assert caught.value.kind == "not-found"
    with pytest.raises(Reject):
        open_token(b"other", token)


def test_a_link_is_no_way_out() -> None:
    """The unsubscribe token of one lead is of no use as anything else."""
    assert type(open_token(PEPPER, sign(PEPPER, LINK))) is LinkClaim
    assert type(open_token(PEPPER, sign(PEPPER, LEAVE))) is UnsubscribeClaim
