"""Signed links in mails: they say what we signed, and nothing else can be made of them."""

import base64
import hmac
import itertools
import uuid

import msgspec
import pytest

from services.shared.contracts.events import keyed_hash
from services.shared.contracts.link_tokens import (
    Claim,
    LinkClaim,
    PixelClaim,
    PreferencesClaim,
    UnsubscribeClaim,
    open_token,
    sign,
)
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook

PEPPER = b"pepper"
TOUCH = "11111111-1111-4111-8111-111111111111"
EMAIL = "ada@acme.example"
ADDRESS = keyed_hash(PEPPER, f"email:{EMAIL}")
CLAIMS: list[Claim] = [
    LinkClaim(TOUCH, "guide"), LinkClaim(TOUCH, "guide", trap=True), LinkClaim(TOUCH, "übersicht"),
    PixelClaim(TOUCH),
    UnsubscribeClaim(TOUCH, ADDRESS), PreferencesClaim(TOUCH, ADDRESS),
]  # fmt: skip
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def refused(token: str, pepper: bytes = PEPPER) -> bool:
    with pytest.raises(Reject) as caught:
        open_token(pepper, token)
    return caught.value.kind == "not-found"


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_token_gives_back_what_was_signed(claim: Claim) -> None:
    """I7: a click says which touch it answers."""
    token = sign(PEPPER, claim)
    assert open_token(PEPPER, token) == claim
    assert set(token) <= set(ALPHABET)


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_character_of_a_token_can_be_changed(claim: Claim) -> None:
    """N6: nor can it be cut, made longer, or written in another way; another pepper opens
    nothing.
    """
    token = sign(PEPPER, claim)
    for place, other in itertools.product(range(len(token)), ALPHABET):
        if token[place] != other:
            assert refused(token[:place] + other + token[place + 1 :])
    for length in range(len(token)):
        assert refused(token[:length])
    for wrong in (
        token + "A",
        token + "AAAA",
        token + "=",
        f" {token}",
        f"{token}\n",
        token[:5] + "!" + token[5:],
        "ü",
        "=",
        "\0",
    ):
        assert refused(wrong)
    for huge in ("A" * 10_000_000, token * 1000):
        assert refused(huge)
    assert refused(token, b"other pepper")


def test_the_token_of_one_lead_makes_none_of_another() -> None:
    """The seal of one body does not fit another touch, another address, or another kind."""
    parts = [
        base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        for token in (sign(PEPPER, claim) for claim in CLAIMS)
    ]
    for one, other in itertools.permutations(parts, 2):
        assert refused(base64.urlsafe_b64encode(one[:12] + other[12:]).decode().rstrip("="))
    kinds = {type(open_token(PEPPER, sign(PEPPER, claim))) for claim in CLAIMS}
    assert kinds == {LinkClaim, PixelClaim, UnsubscribeClaim, PreferencesClaim}


def test_tokens_are_short_and_hold_no_personal_data(default_playbook: Playbook) -> None:
    touch = str(uuid.uuid4())
    claims = [
        LinkClaim(touch, item.id, trap=trap)
        for item in default_playbook.content
        for trap in (False, True)
    ]
    for claim in [
        *claims,
        UnsubscribeClaim(touch, ADDRESS),
        PreferencesClaim(touch, ADDRESS),
        PixelClaim(touch),
    ]:
        token = sign(PEPPER, claim)
        assert len(token) < 100
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        for word in (EMAIL, "ada", "acme"):
            assert word.encode() not in raw.lower()


@pytest.mark.parametrize(
    "claim",
    [
        LinkClaim(TOUCH, "guide", "https://www.example.com/guide?a=1&b=ü"),
        UnsubscribeClaim(TOUCH, ADDRESS),
    ],
)
def test_tokens_of_mails_that_went_out_long_ago_still_open(claim: Claim) -> None:
    """N6: the way out of an old mail is a way out."""
    parts = (
        ["l", claim.touch_id, claim.content_id, claim.url]
        if isinstance(claim, LinkClaim)
        else ["u", TOUCH, ADDRESS]
    )
    body = msgspec.msgpack.encode(parts)
    seal = hmac.digest(PEPPER, b"link\0" + body, "sha256")[:16]
    token = base64.urlsafe_b64encode(seal + body).decode().rstrip("=")
    assert open_token(PEPPER, token) == claim
    assert refused(token[:-1])
    assert refused(token, b"other pepper")
