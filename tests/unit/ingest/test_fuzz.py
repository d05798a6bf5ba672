"""Whatever comes in ends in interactions or in a refusal: every parser, check and decoder of the
sources.
"""

import contextlib
import json
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingest.http.admission import presented_key
from services.ingest.http.form_token import age
from services.ingest.http.request import unzipped
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.registry import FORMS, MAILBOX, served
from services.ingest.sources.contract import (
    InboundRequest,
    Parsed,
    Sample,
    Secret,
    Source,
)
from services.ingest.sources.reading.json import is_deep, pieces
from services.shared.contracts.events import InteractionEvent
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.link_tokens import open_token
from services.shared.errors import Reject
from services.shared.http.paging import Cursors
from services.shared.playbook import loading
from services.shared.settings import ROOT

CASES, MANY = 600, 100_000  # in all, over all parsers
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DATA = ROOT / "tests" / "data"
RULES = loading.load(ROOT / "deploy" / "playbook")
PARSERS = [*served(RULES), FORMS, MAILBOX]
NORMALISER = Normaliser(
    Cleaner(RULES.identity), b"pepper", RULES.sales, frozenset(RULES.crm.fields)
)
WORDS = [
    b"null",
    b"true",
    b"NaN",
    b"1e400",
    b"-1e999",
    b"9223372036854775808",
    b"-1",
    b'""',
    b"[]",
    b"{}",
    b"[[[[",
    b"}}}}",
    b'"',
    b"\\ud83d",
    b"\\u0000",
    b"\xff\xfe",
    b"\xc0\xa0",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\0",
    b"%00",
    b"%FF",
    b"%",
    b"&",
    b"=",
    b"\r\n\r\n",
    b"--",
    b"@",
    b"a@b.example",
    b"0000-00-00T00:00:00Z",
    b"9999-12-31T23:59:59Z",
    b"2026-02-30",
    b"=?utf-8?B?/w==?=",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n\r\n",
    b"charset=utf-7",
    b"x" * 9000,
]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)


def limited(cases: int) -> Any:
    """So many cases of one parser, the same ones every time where they are few."""
    return settings(
        max_examples=cases,
        deadline=None,
        derandomize=cases < 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def seeds(source: Source) -> list[Sample]:
    """Requests as they should be: the sample, signed where its sender signs, and the documented
    example.
    """
    made = []
    if source.sample:
        made.append(source.sample("jo@fuzz.example", NOW))
        if source.sign and source.new_secret:
            made.append(
                source.sign(
                    made[0], source.new_secret()[0], "https://fuzz.example" + source.paths[0], NOW
                )
            )
    if source.example is not None:
        made.append(Sample(json.dumps(source.example).encode(), "application/json"))
    media = made[0].media if made else "application/json"
    files = (
        (DATA / "senders").glob(f"{source.name.replace('-', '_')}*")
        if source is not MAILBOX
        else (DATA / "mail").glob("*.eml")
    )
    made += [Sample(file.read_bytes(), media) for file in sorted(files)]
    return made or [Sample(b"{}", "application/json")]


def mutated(body: bytes, rng: random.Random) -> bytes:
    """A body with some of its bytes flipped, cut, doubled, or replaced by what has broken parsers
    before.
    """
    changed = bytearray(body)
    for _ in range(rng.randrange(1, 6)):
        at, to = sorted(rng.randrange(len(changed) + 1) for _ in range(2))
        act = rng.randrange(6)
        if act == 0 and changed:
            changed[at % len(changed)] ^= 1 << rng.randrange(8)
        elif act == 1:
            del changed[at : min(to, at + 40)]
        elif act == 2:
            changed[at:at] = rng.choice(WORDS)
        elif act == 3:
            changed[at : min(to, at + 20)] = rng.choice(WORDS)
        elif act == 4:
            changed[at:at] = changed[at : min(to, at + 200)] * rng.randrange(1, 4)
        else:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(changed)


def exchanged(value: Any, rng: random.Random, other: Any) -> Any:
    """A JSON value with one of its parts replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        return {**value, name: exchanged(value[name], rng, other)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], exchanged(value[place], rng, other), *value[place + 1 :]]
    return other


def body_of(sample: Sample, rng: random.Random, raw: bytes, other: Any) -> bytes:
    """A body between sound and nonsense."""
    act = rng.randrange(8)
    if act == 0:
        return raw
    if act < 4:
        try:
            return json.dumps(exchanged(json.loads(sample.body), rng, other)).encode(
                "utf-8", "surrogatepass"
            )
        except ValueError:
            pass
    return mutated(sample.body, rng)


def settles(source: Source, post: InboundRequest, secrets: list[Secret]) -> None:
    """The whole way of a request that is not IO."""
    assert isinstance(source.key_in_body(post.body), str)
    try:
        if source.handshake:
            source.handshake(post, secrets)
        if source.verify:
            assert source.verify(post, secrets) in secrets
    except Reject:
        pass
    try:
        if source.single_use_token:
            assert isinstance(source.single_use_token(post), str)
        provenance, items = source.provenance(post), source.parse(post)
    except Reject:
        return
    assert all(isinstance(item, Parsed) for item in items)
    receipt = NORMALISER.take(items, Receipt(source.name, NOW, 0.0, provenance=provenance))
    assert len(receipt.ids) + len(receipt.refused) <= len(items)
    for record in receipt.records:
        if record.topic.endswith("interactions"):
            msgspec.json.decode(record.value, type=InteractionEvent)
    for _, _, reject in receipt.refused:
        assert reject.title
        reject.title.encode()


def fuzz(source: Source, cases: int) -> None:
    sound = seeds(source)
    secrets = [Secret("default", source.new_secret()[1])] if source.new_secret else []
    medias = sorted(source.media) or ["application/json"]

    @limited(cases)
    @given(st.integers(0, 2**64), st.binary(max_size=200), PLAIN)
    def run(number: int, raw: bytes, other: Any) -> None:
        rng = random.Random(number)
        sample = rng.choice(sound)
        body = body_of(sample, rng, raw, other)
        media = sample.media if rng.random() < 0.9 else rng.choice(medias)
        headers = {name.lower(): value for name, value in sample.headers.items()} | {
            "content-type": media
        }
        if headers and rng.random() < 0.3:
            name = rng.choice(sorted(headers))
            headers[name] = mutated(headers[name].encode(), rng).decode("latin-1")
        path = sample.path or rng.choice(list(source.paths) or [""])
        post = InboundRequest(
            path,
            body,
            NOW,
            media.partition(";")[0].strip().lower(),
            headers,
            sample.query,
            "POST",
            "https://fuzz.example/",
        )
        settles(source, post, secrets)

    run()


def decode(cases: int) -> None:
    cursors = Cursors(b"pepper")

    @limited(cases)
    @given(
        st.binary(max_size=400)
        | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
    def run(raw: bytes) -> None:
        text = raw.decode("latin-1")
        assert isinstance(presented_key(text), str)
        assert is_deep(raw) in (True, False)
        with contextlib.suppress(Reject):
            assert all(isinstance(piece, bytes) for piece in pieces(raw))
        with contextlib.suppress(Reject):
            assert isinstance(unzipped(raw), bytes)
        for forged in (
            open_token,
            lambda *given: cursors.decode("scope", given[1]),
            lambda *given: age(given[0], "form", given[1], 0.0),
        ):
            with pytest.raises(Reject):
                forged(b"pepper", text)

    run()


@pytest.mark.parametrize("source", PARSERS, ids=lambda source: source.name)
def test_a_parser_gives_interactions_or_a_refusal(source: Source) -> None:
    fuzz(source, CASES // len(PARSERS))


@pytest.mark.long
@pytest.mark.parametrize("source", PARSERS, ids=lambda source: source.name)
def test_a_hundred_thousand_cases_end_in_interactions_or_a_refusal(source: Source) -> None:
    fuzz(source, MANY // len(PARSERS) + 1)


@pytest.mark.parametrize("cases", [200, pytest.param(20_000, marks=pytest.mark.long)])
def test_a_decoder_of_raw_bytes_gives_its_value_or_a_refusal(cases: int) -> None:
    decode(cases)
