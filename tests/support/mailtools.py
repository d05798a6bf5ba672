"""What the tests of mail tools' webhooks share: payloads from the tools' documentation, and what
ingest makes of them.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Refused,
    Sample,
    Secret,
    Source,
)
from services.ingest.sources.remarks import plain
from services.shared.contracts.events import (
    CONSENTS,
    INTERACTIONS,
    decode_consent,
    decode_envelope,
    keyed_hash,
)
from services.shared.contracts.identity import Cleaner
from services.shared.errors import Reject
from services.shared.playbook.sections import Identity

NOW = datetime(2026, 11, 1, 13, tzinfo=UTC)
TOUCH, OTHER_TOUCH = "7c9e6679-7425-40de-944b-e07fc1f90ae7", "0f8fad5b-d9cb-469f-a165-70867728950e"
PEPPER = b"pepper"
NORMALISER = Normaliser(
    Cleaner(Identity(junk=["null"], role_mailboxes=[], free_mail_domains=[])), PEPPER
)
OLD, NEW = Secret("default", "the old secret"), Secret("default", "the new secret")


def golden(name: str) -> str:
    """A file of payloads written out from a sender's documentation."""
    return (Path(__file__).parents[1] / "data" / "senders" / name).read_text()


def post(source: Source, body: bytes, at: datetime = NOW, **more: Any) -> InboundRequest:
    """A request to the source's address."""
    return InboundRequest(source.paths[0], body, at, **more)


def posted(source: Source, sample: Sample, at: datetime = NOW) -> InboundRequest:
    """A signed sample as it arrives."""
    return post(
        source, sample.body, at, media=sample.media, headers=sample.headers, query=sample.query
    )


def items(found: Sequence[Parsed]) -> list[Item]:
    """All of them, none being refused."""
    assert not [item.reject for item in found if isinstance(item, Refused)]
    return [plain(item) for item in found if not isinstance(item, Refused)]


def summary(found: Sequence[Parsed]) -> list[tuple[str, str, str]]:
    """(address, type, kind of bounce) of each."""
    return [(item.email, item.type, str(item.properties.get("type", ""))) for item in items(found)]


def taken(found: Sequence[Parsed]) -> Receipt:
    """What ingest makes of them; the items themselves are spent on the way."""
    return NORMALISER.take(map(copy.copy, found), Receipt("tool:default", NOW, 1.0))


def uids(found: Sequence[Parsed]) -> list[str]:
    """The events' identities."""
    receipt = taken(found)
    assert not receipt.refused
    return [
        decode_envelope(record.value).id
        for record in receipt.records
        if record.topic == INTERACTIONS
    ]


def consents(found: Sequence[Parsed]) -> dict[str, list[str]]:
    """Each address and its new states of consent to e-mail, by the records of `lead.consents` that
    are told under it.
    """
    names = {keyed_hash(PEPPER, f"email:{item.email}"): item.email for item in items(found)}
    states: dict[str, list[str]] = defaultdict(list)
    for record in taken(found).records:
        if record.topic == CONSENTS:
            data = decode_consent(record.value).data
            assert (data.channel, data.purpose) == ("email", "marketing")
            if data.identifier:
                continue
            states[names[data.address]].append(data.state)
    return dict(states)


def refusal(source: Source, request: InboundRequest, *secrets: Secret) -> str:
    """The kind of the refusal of a request that does not fit."""
    assert source.verify
    with pytest.raises(Reject) as refused:
        source.verify(request, secrets)
    assert refused.value.remedy
    return refused.value.kind


def check_sample(source: Source) -> None:
    """The sample is signed so that its own secret fits, and tells of the address."""
    assert source.sample
    assert source.sign
    assert source.new_secret
    assert source.verify
    signer, verifier = source.new_secret()
    made = source.sample("ann@example.com", NOW)
    request = posted(source, source.sign(made, signer, f"https://in.example{source.paths[0]}", NOW))
    assert source.verify(request, [Secret("test", verifier)]).name == "test"
    assert {item.email for item in items(source.parse(request))} == {"ann@example.com"}
    assert not taken(source.parse(request)).refused
    assert not consents(source.parse(request))
    assert refusal(source, request, Secret("test", source.new_secret()[1])) == "signature"
    assert refusal(source, request) == "not-connected"


def is_clear(parse: Callable[[InboundRequest], Sequence[Parsed]], request: InboundRequest) -> bool:
    """Whether a request ends in items and refusals, whatever it holds; anything else is raised."""
    try:
        found = parse(request)
    except Reject:
        return True
    taken(found)
    return all(isinstance(item, Parsed) for item in found)


# with half of a surrogate pair, and what no database keeps
TEXTS = st.text("aZ1 @.é中\x00\ud83d", max_size=12)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def spoiled(payloads: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Payloads in which some values are of another type, at the top or one level deeper."""

    @st.composite
    def draw(draw: st.DrawFn) -> dict[str, Any]:
        payload = copy.deepcopy(draw(st.sampled_from(payloads)))
        for _ in range(draw(st.integers(1, 4))):
            place = payload
            name = draw(st.sampled_from(sorted(place)))
            if isinstance(place[name], dict) and place[name] and draw(st.booleans()):
                place = place[name]
                name = draw(st.sampled_from(sorted(place)))
            place[name] = draw(VALUES)
        return payload

    return draw()


def encoded(value: Any) -> bytes:
    """As JSON."""
    return json.dumps(value).encode()


def later(hours: float) -> datetime:
    """A time after NOW."""
    return NOW + timedelta(hours=hours)
