"""How mapped senders prove themselves, checked by signers that are not ours: `standardwebhooks`,
`svix`, and a few lines here.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
import svix
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.ingest.sources.contract import InboundRequest, Sample, Secret
from services.ingest.sources.reading.schemes import MAX_SIGNATURES, Scheme, scheme
from services.shared.errors import Reject
from services.shared.playbook.senders import Hmac

NOW = datetime.now(UTC).replace(microsecond=0)
STAMP = str(int(NOW.timestamp()))
BODY = b'{"type":"trial.started","data":{"email":"zoe@plant.example","n":1.0}}'
OLD, NEW = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
BOTH = [Secret("second", NEW), Secret("default", OLD)]
SIGNERS: dict[str, Callable[[str], standardwebhooks.Webhook | svix.Webhook]] = {
    "webhook": standardwebhooks.Webhook, "svix": svix.Webhook,
}  # fmt: skip
ZOOM = Hmac(
    header="x-zm-signature",
    value="v0={signature}",
    signed="v0:{timestamp}:{body}",
    timestamp="x-zm-request-timestamp",
)
CALENDLY = Hmac(
    header="Calendly-Webhook-Signature",
    value="t={timestamp},v1={signature}",
    signed="{timestamp}.{body}",
)


def found(rule: str | Hmac) -> Scheme:
    made = scheme(rule)
    assert made is not None
    return made


def standard(prefix: str) -> Scheme:
    return found("standard-webhooks" if prefix == "webhook" else "svix")


def post(body: bytes = BODY, query: dict[str, str] | None = None, **headers: str) -> InboundRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return InboundRequest("/v1/hooks/x", body, NOW, "application/json", named, query or {})


def webhook(
    prefix: str = "webhook",
    secret: str = NEW,
    body: bytes = BODY,
    number: str = "msg_1",
    at: datetime = NOW,
    signature: str = "",
) -> InboundRequest:
    """A request signed by the sender's own library."""
    signature = signature or SIGNERS[prefix](secret).sign(number, at, body.decode())
    stamp = str(int(at.timestamp()))
    return post(
        body,
        **{f"{prefix}-id": number, f"{prefix}-timestamp": stamp, f"{prefix}-signature": signature},
    )


def refusal(of: Scheme, given: InboundRequest, secrets: list[Secret]) -> str:
    with pytest.raises(Reject) as refused:
        of.verify(given, secrets)
    assert refused.value.remedy
    return refused.value.kind


# -- Standard Webhooks and Svix -------------------------------------------------------------------


@pytest.mark.parametrize("prefix", SIGNERS)
def test_what_the_senders_own_library_signs_fits_any_active_secret(prefix: str) -> None:
    for secret in BOTH:
        assert standard(prefix).verify(webhook(prefix, secret.value), BOTH) == secret


@pytest.mark.parametrize("prefix", SIGNERS)
def test_what_we_sign_fits_the_senders_own_library(prefix: str) -> None:
    signer, verifier = standard(prefix).new_secret()
    now = datetime.now(UTC)  # the library compares with its own clock
    made = standard(prefix).sign(Sample(BODY, "application/json"), signer, "", now)
    SIGNERS[prefix](verifier).verify(made.body, dict(made.headers))
    given = post(made.body, **dict(made.headers))._replace(received_at=now)
    assert standard(prefix).verify(given, [Secret("default", verifier)]).name == "default"


@pytest.mark.parametrize("prefix", SIGNERS)
def test_an_old_secret_fits_no_more_after_its_rotation(prefix: str) -> None:
    assert refusal(standard(prefix), webhook(prefix, OLD), BOTH[:1]) == "signature"
    assert refusal(standard(prefix), webhook(prefix, OLD), []) == "not-connected"


@pytest.mark.parametrize("prefix", SIGNERS)
def test_a_flipped_byte_or_the_same_json_written_anew_does_not_fit(prefix: str) -> None:
    good = webhook(prefix)
    for body in (BODY.replace(b"zoe", b"Zoe"), json.dumps(json.loads(BODY)).encode(), BODY + b"\n"):
        assert refusal(standard(prefix), good._replace(body=body), BOTH) == "signature"


@pytest.mark.parametrize("prefix", SIGNERS)
@pytest.mark.parametrize("away", [-301, 301])
def test_a_request_of_other_minutes_is_stale(prefix: str, away: int) -> None:
    assert (
        refusal(standard(prefix), webhook(prefix, at=NOW + timedelta(seconds=away)), BOTH)
        == "stale"
    )
    near = webhook(prefix, at=NOW + timedelta(seconds=away // 301 * 299))
    assert standard(prefix).verify(near, BOTH).name == "second"


def test_a_swapped_id_or_time_does_not_fit() -> None:
    good = webhook()
    for name, value in (("webhook-id", "msg_2"), ("webhook-timestamp", str(int(STAMP) + 1))):
        assert (
            refusal(standard("webhook"), good._replace(headers={**good.headers, name: value}), BOTH)
            == "signature"
        )


def test_points_in_an_id_or_a_time_cannot_move_the_borders_of_what_was_signed() -> None:
    """`msg.1` + time + body is signed like `msg` + `1.time` + body, and like `msg` + `1` +
    `time.body`.
    """
    form = b"email=zoe%40plant.example"
    signature = standardwebhooks.Webhook(NEW).sign(f"msg.{STAMP}", NOW, form.decode())
    assert (
        refusal(
            standard("webhook"),
            webhook(body=form, number=f"msg.{STAMP}", signature=signature),
            BOTH,
        )
        == "signature"
    )
    moved = {"webhook-id": "msg", "webhook-signature": signature}
    longer = post(form, **moved, **{"webhook-timestamp": f"{STAMP}.{STAMP}"})
    assert refusal(standard("webhook"), longer, BOTH) == "signature"
    shorter = standardwebhooks.Webhook(NEW).sign("msg", NOW, f"{STAMP}.{form.decode()}")
    split = webhook(body=form, number=f"msg.{STAMP}", signature=shorter)
    assert refusal(standard("webhook"), split, BOTH) == "signature"


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_no_header_may_be_missing(missing: str) -> None:
    good = webhook()
    assert (
        refusal(standard("webhook"), good._replace(headers={**good.headers, missing: ""}), BOTH)
        == "signature"
    )


def test_one_of_several_signatures_in_the_header_is_enough() -> None:
    right = webhook().headers["webhook-signature"]
    several = webhook(signature=f"v1,AAAA v2,xyz v1a,AAAA nonsense {right}")
    assert standard("webhook").verify(several, BOTH).name == "second"


def test_only_the_first_signatures_of_a_header_are_compared() -> None:
    """Each costs a hash of the whole body, and a header has room for thousands."""
    right = webhook().headers["webhook-signature"]
    for wrong, kind in ((MAX_SIGNATURES - 1, ""), (MAX_SIGNATURES, "signature")):
        several = webhook(signature=" ".join(["v1,AAAA"] * wrong + [right]))
        if kind:
            assert refusal(standard("webhook"), several, BOTH) == kind
        else:
            assert standard("webhook").verify(several, BOTH).name == "second"


def test_v1a_is_for_public_keys_and_v1_for_shared_ones() -> None:
    """A public key is known to everybody: taken as an HMAC key it would let everybody in."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    text = f"msg_1.{STAMP}.".encode() + BODY
    by_key = base64.b64encode(private.sign(text)).decode()
    by_hmac = base64.b64encode(hmac.new(public, text, hashlib.sha256).digest()).decode()
    known = [Secret("default", "whpk_" + base64.b64encode(public).decode())]
    assert standard("webhook").verify(webhook(signature=f"v1a,{by_key}"), known).name == "default"
    for signature in (f"v1,{by_key}", f"v1,{by_hmac}", f"v1a,{by_hmac}", "v1a,", "v1a,AAAA"):
        assert refusal(standard("webhook"), webhook(signature=signature), known) == "signature"
    assert refusal(standard("webhook"), webhook(signature=f"v1a,{by_key}"), BOTH) == "signature"
    assert (
        refusal(standard("webhook"), webhook(signature=f"v1a,{by_key}"), [Secret("x", "whpk_AAAA")])
        == "signature"
    )


@pytest.mark.parametrize("nothing", ["whsec_", "whsec_===", "", "whpk_"])
def test_an_empty_key_lets_nobody_in(nothing: str) -> None:
    text = f"msg_1.{STAMP}.".encode() + BODY
    signature = base64.b64encode(hmac.new(b"", text, hashlib.sha256).digest()).decode()
    assert (
        refusal(standard("webhook"), webhook(signature=f"v1,{signature}"), [Secret("x", nothing)])
        == "signature"
    )


# -- an HMAC as the playbook describes it ---------------------------------------------------------


def hexed(secret: str, text: bytes) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def zoom(secret: str = "s", body: bytes = BODY, stamp: str = STAMP) -> InboundRequest:
    value = f"v0={hexed(secret, f'v0:{stamp}:'.encode() + body)}"
    return post(body, x_zm_signature=value, x_zm_request_timestamp=stamp)


def calendly(
    secret: str = "s", body: bytes = BODY, stamp: str = STAMP, more: str = ""
) -> InboundRequest:
    value = f"t={stamp},v1={hexed(secret, f'{stamp}.'.encode() + body)}{more}"
    return post(body, calendly_webhook_signature=value)


def test_zooms_and_calendlys_signatures_fit_any_active_secret() -> None:
    secrets = [Secret("second", "t"), Secret("default", "s")]
    for rule, made in ((ZOOM, zoom), (CALENDLY, calendly)):
        assert found(rule).verify(made(), secrets).name == "default"
        assert found(rule).verify(made("t"), secrets).name == "second"
        assert refusal(found(rule), made(), secrets[:1]) == "signature"
        assert refusal(found(rule), made()._replace(body=BODY + b" "), secrets) == "signature"


def test_a_header_may_hold_several_signatures_and_more() -> None:
    other = hexed("gone", f"{STAMP}.".encode() + BODY)
    assert (
        found(CALENDLY).verify(calendly(more=f",v1={other},v0=abc"), [Secret("a", "s")]).name == "a"
    )
    assert (
        found(CALENDLY).verify(calendly("x", more=f", v1={other}"), [Secret("a", "gone")]).name
        == "a"
    )


@pytest.mark.parametrize("stamp", ["", "now", "1e9", "-5", "٣", f"{STAMP}.5", "9" * 400])
def test_a_time_that_is_no_plain_number_is_refused(stamp: str) -> None:
    for rule, made in ((ZOOM, zoom), (CALENDLY, calendly)):
        assert refusal(found(rule), made(stamp=stamp), [Secret("a", "s")]) in ("signature", "stale")


def test_the_time_may_be_in_milliseconds_and_the_window_is_the_rules() -> None:
    assert found(ZOOM).verify(zoom(stamp=f"{STAMP}123"), [Secret("a", "s")]).name == "a"
    late = str(int(STAMP) - 3000)
    assert refusal(found(ZOOM), zoom(stamp=late), [Secret("a", "s")]) == "stale"
    assert (
        found(ZOOM.model_copy(update={"window": 3600}))
        .verify(zoom(stamp=late), [Secret("a", "s")])
        .name
        == "a"
    )


def test_a_signature_over_the_body_alone_in_hex_or_base64() -> None:
    """Shopify's form, and Zoho Webinar's."""
    digest = hmac.new(b"s", BODY, hashlib.sha256).digest()
    shopify = found(Hmac(header="X-Shopify-Hmac-Sha256", encoding="base64"))
    assert (
        shopify.verify(
            post(x_shopify_hmac_sha256=base64.b64encode(digest).decode()), [Secret("a", "s")]
        ).name
        == "a"
    )
    assert (
        refusal(shopify, post(x_shopify_hmac_sha256=digest.hex()), [Secret("a", "s")])
        == "signature"
    )
    zoho = found(Hmac(header="X-WEBINAR-SIGNATURE"))
    assert (
        zoho.verify(post(x_webinar_signature=digest.hex().upper()), [Secret("a", "s")]).name == "a"
    )


def test_places_in_the_body_or_an_id_are_not_filled_in_again() -> None:
    rule = Hmac(header="s", signed="{id}:{timestamp}:{body}", id="i", timestamp="t")
    body = b"{timestamp}{id}"
    text = f"n-1:{STAMP}:".encode() + body
    assert (
        found(rule)
        .verify(post(body, s=hexed("k", text), i="n-1", t=STAMP), [Secret("a", "k")])
        .name
        == "a"
    )
    for number in ("n:1", "", "n.1", "{body}"):
        signed = f"{number}:{STAMP}:".encode() + body
        assert (
            refusal(
                found(rule), post(body, s=hexed("k", signed), i=number, t=STAMP), [Secret("a", "k")]
            )
            == "signature"
        )


# -- secrets without a signature ------------------------------------------------------------------


def test_a_secret_in_the_address_or_as_a_password() -> None:
    for given, secrets in ((post(query={"secret": "s"}), "s"), (post(query={"secret": "t"}), "t")):
        assert found("query").verify(given, [Secret("a", "s"), Secret("b", "t")]).value == secrets
    for given in (
        post(),
        post(query={"secret": ""}),
        post(query={"secret": "S"}),
        post(query={"key": "s"}),
    ):
        assert refusal(found("query"), given, [Secret("a", "s")]) == "signature"
    basic = post(authorization="Basic " + base64.b64encode(b"anybody:s:t").decode())
    assert found("basic").verify(basic, [Secret("a", "s:t")]).name == "a"
    for authorization in (
        "",
        "Basic",
        "Basic !",
        "Bearer s:t",
        "Basic " + base64.b64encode(b"s:t").decode(),
    ):
        assert (
            refusal(found("basic"), post(authorization=authorization), [Secret("a", "s:t")])
            == "signature"
        )


@pytest.mark.parametrize(
    "rule", ["query", "basic", "standard-webhooks", "svix", ZOOM, CALENDLY], ids=str
)
def test_every_scheme_makes_secrets_and_signs_with_them(rule: str | Hmac) -> None:
    signer, verifier = found(rule).new_secret()
    assert len(verifier) > 40
    made = found(rule).sign(Sample(BODY, "application/json"), signer, "", NOW)
    given = post(
        made.body, dict(made.query), **{name.lower(): value for name, value in made.headers.items()}
    )
    assert (
        found(rule).verify(given, [Secret("x", "another"), Secret("default", verifier)]).name
        == "default"
    )
    assert refusal(found(rule), given, [Secret("x", found(rule).new_secret()[1])]) == "signature"


def test_a_sender_with_an_api_key_has_no_scheme() -> None:
    assert scheme("key") is None
