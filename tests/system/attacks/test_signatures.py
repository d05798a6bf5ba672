"""Attacks on the signatures of senders, each with the exact refusal that it meets."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.ingest.sources.contract import Sample, Source
from services.shared.playbook import loading
from services.shared.settings import ROOT
from tests.support import present
from tests.support.ingest_process import REFRESHED_S, IngestProcess
from tests.support.refusals import refused
from tests.support.running_system import wait_until
from tests.support.standard_webhooks import STANDARD_WEBHOOKS, signing_sources
from tests.system.attacks.limits import PER_ADDRESS, too_many

SIGNED = signing_sources(loading.load(ROOT / "deploy" / "playbook"))


# for hours, with the first time stamp
REPEATED_AS_THEY_WERE = {"sendgrid", "mailgun", "mailgun-inbound"}


class Signer:
    """A sender that signs, and the ingest that verifies with what was registered for it: one secret
    in force, and an older one that will be revoked.
    """

    def __init__(self, ingest: IngestProcess, source: Source) -> None:
        self.ingest, self.source = ingest, source
        self.secret, _ = self.register()
        self.old_secret, self.old_id = self.register()

    def register(self, **more: Any) -> tuple[str, str]:
        """A new secret: (what signs, the id of what verifies); holds after REFRESHED_S."""
        assert self.source.new_secret
        signs, verifies = self.source.new_secret()
        id_ = self.ingest.connect(
            self.source, verifies, name=f"attacked-{uuid.uuid4().hex[:6]}", **more
        )
        return signs, id_

    def request(self, secret: str = "", at: datetime | None = None) -> Sample:
        """A signed request."""
        return self.ingest.signed_request(self.source, secret or self.secret, at)

    @property
    def signs_the_body(self) -> bool:
        """Whether the signature depends on the body; where it does not, a token serves once, or the
        secret is all there is.
        """
        assert self.source.sample
        sample = self.source.sample("a@signed.example", present.now())
        return self._differ(sample, sample._replace(body=sample.body + b" "))

    @property
    def signs_the_time(self) -> bool:
        """Whether the signature holds for some minutes only."""
        assert self.source.sample
        now = present.now()
        sample = self.source.sample("a@signed.example", now)
        first, second = (
            self.ingest.signed_request(self.source, self.secret, at, sample)
            for at in (now, now - timedelta(hours=1))
        )
        return (first.headers, first.query, first.body) != (
            second.headers,
            second.query,
            second.body,
        )

    def _differ(self, *samples: Sample) -> bool:
        now = present.now()
        first, second = (
            self.ingest.signed_request(self.source, self.secret, now, sample) for sample in samples
        )
        return (first.headers, first.query) != (second.headers, second.query)

    def is_refused(self, sample: Sample, kind: str) -> None:
        """The exact refusal, and nothing is published."""
        with self.ingest.publishes_nothing():
            refused(self.ingest.post_signed(self.source, sample), 401, kind)

    def passes(self, sample: Sample) -> None:
        """Success, and something is published."""
        before = self.ingest.count_published()
        answer = self.ingest.post_signed(self.source, sample)
        assert answer.status_code == 200, answer.text
        assert self.ingest.count_published() > before


@pytest.fixture(scope="module")
def signers(ingest: IngestProcess) -> list[Signer]:
    """All of SIGNED, registered at once."""
    signers = [Signer(ingest, source) for source in SIGNED]
    time.sleep(REFRESHED_S)
    return signers


@pytest.fixture(params=range(len(SIGNED)), ids=[source.name for source in SIGNED])
def signer(signers: list[Signer], request: pytest.FixtureRequest) -> Signer:
    return signers[request.param]


def test_what_its_sender_signed_passes(signer: Signer) -> None:
    """The control: without it the refusals below would prove nothing."""
    signer.passes(signer.request())


def test_a_flipped_byte(signer: Signer) -> None:
    sample = signer.request()
    if signer.signs_the_body:
        for place in (0, len(sample.body) // 2, len(sample.body) - 1):
            flipped = (
                sample.body[:place] + bytes([sample.body[place] ^ 1]) + sample.body[place + 1 :]
            )
            signer.is_refused(sample._replace(body=flipped), "signature")
    else:
        signer.passes(sample)


def test_a_truncated_body(signer: Signer) -> None:
    if signer.signs_the_body:
        sample = signer.request()
        signer.is_refused(sample._replace(body=sample.body[:-1]), "signature")
        signer.is_refused(sample._replace(body=b""), "signature")
    else:
        signer.is_refused(signer.request("wrong"), "signature")


def test_re_serialised_json(signer: Signer) -> None:
    """The signature is over the raw bytes, not over what they mean."""
    sample = signer.request()
    if signer.signs_the_body and "json" in sample.media:
        again = json.dumps(json.loads(sample.body), indent=1).encode()
        signer.is_refused(sample._replace(body=again), "signature")
    else:
        signer.passes(sample)


def test_no_signature(signer: Signer) -> None:
    assert signer.source.sample
    bare = signer.source.sample("a@signed.example", present.now())
    signer.is_refused(bare, "signature")


def test_another_secret(signer: Signer) -> None:
    assert signer.source.new_secret
    signer.is_refused(signer.request(signer.source.new_secret()[0]), "signature")


def test_an_old_secret_after_rotation(signer: Signer) -> None:
    """Both are in force while the sender changes to the new one; then the old one is of no use."""
    old = signer.old_secret
    signer.passes(signer.request(old))
    signer.passes(signer.request())
    signer.ingest.disconnect(signer.old_id)
    wait_until(
        lambda: signer.ingest.post_signed(signer.source, signer.request(old)).status_code == 401, 2
    )
    signer.is_refused(signer.request(old), "signature")
    signer.passes(signer.request())


@pytest.fixture(scope="module")
def expired_secrets(signers: list[Signer]) -> dict[str, str]:
    """A secret of each signer, by its source's name, that was in force for some seconds."""
    end = datetime.now(UTC) + timedelta(seconds=6)
    secrets = {signer.source.name: signer.register(expires_at=end)[0] for signer in signers}
    time.sleep(REFRESHED_S)
    for signer in signers:
        signer.passes(signer.request(secrets[signer.source.name]))
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds() + 0.1))
    return secrets


def test_an_expired_secret(signer: Signer, expired_secrets: dict[str, str]) -> None:
    signer.is_refused(signer.request(expired_secrets[signer.source.name]), "signature")


@pytest.mark.parametrize("minutes", [-6, -60 * 24 * 4, 6, 60 * 24 * 365])
def test_a_stale_or_future_time_stamp(signer: Signer, minutes: int) -> None:
    """A recorded request is of no use after five minutes, or after the days in which its sender
    repeats it as it was.
    """
    sample = signer.request(at=present.now() + timedelta(minutes=minutes))
    if not signer.signs_the_time or (minutes == -6 and signer.source.name in REPEATED_AS_THEY_WERE):
        signer.passes(sample)
    else:
        signer.is_refused(sample, "stale")


def test_a_token_used_for_another_body(signer: Signer) -> None:
    """Where the signature does not cover the body, its token serves one body only; the same body
    again is a repetition.
    """
    sample = signer.request()
    signer.passes(sample)
    assert signer.ingest.post_signed(signer.source, sample).status_code == 200
    if signer.source.single_use_token:
        other = sample._replace(body=sample.body.replace(b"signed.example", b"other0.example"))
        assert other != sample
        with signer.ingest.publishes_nothing():
            answer = signer.ingest.post_signed(signer.source, other)
            assert answer.status_code == signer.source.stop_status
            assert answer.json()["type"].rpartition("#")[2] == "replayed"


def named(signer: Signer) -> bool:
    """Whether it is the scheme of Standard Webhooks."""
    return "webhook-id" in signer.request().headers


def test_a_swapped_id_or_time(signer: Signer) -> None:
    """Standard Webhooks: id and time are signed with the body."""
    if named(signer):
        mine, other = signer.request(), signer.request(at=present.now() - timedelta(seconds=9))
        for header in ("webhook-id", "webhook-timestamp"):
            signer.is_refused(
                mine._replace(headers={**mine.headers, header: other.headers[header]}), "signature"
            )
    else:
        signer.passes(signer.request())


def test_a_dot_inside_an_id(signer: Signer) -> None:
    """Standard Webhooks signs `id.time.body`: dots cannot be moved between the three."""
    if named(signer):
        sample = signer.request()
        at = sample.headers["webhook-timestamp"]
        moved = {**sample.headers, "webhook-id": f"{sample.headers['webhook-id']}.{at}"}
        signer.is_refused(sample._replace(headers=moved), "signature")
        first, _, rest = sample.headers["webhook-id"].partition(".")
        moved = {**sample.headers, "webhook-id": first, "webhook-timestamp": rest}
        signer.is_refused(
            sample._replace(headers=moved, body=f"{at}.".encode() + sample.body), "signature"
        )
    else:
        signer.passes(signer.request())


def test_v1_presented_as_v1a(signer: Signer) -> None:
    """A secret's signature is no public key's, and one that fits among others is enough."""
    if named(signer):
        sample = signer.request()
        given = sample.headers["webhook-signature"]
        for wrong in (
            given.replace("v1,", "v1a,"),
            given.replace("v1,", ""),
            given.replace("v1,", "v2,"),
            "v1,",
            ",",
        ):
            signer.is_refused(
                sample._replace(headers={**sample.headers, "webhook-signature": wrong}), "signature"
            )
        several = {**sample.headers, "webhook-signature": f"v1,AAAA v1a,AAAA {given}"}
        signer.passes(sample._replace(headers=several))
    else:
        signer.passes(signer.request())


def test_a_sender_who_is_not_connected(strict: IngestProcess) -> None:
    for number, source in enumerate(SIGNED):
        assert source.new_secret
        strict.http.headers["X-Forwarded-For"] = f"198.19.0.{number}"
        sample = strict.signed_request(source, source.new_secret()[0])
        refused(strict.post_signed(source, sample), 401, "not-connected")


def test_a_signature_guessed_again_and_again(strict: IngestProcess) -> None:
    """Guessing is answered 429 after a few attempts; who holds the secret comes in from the same
    address.
    """
    assert STANDARD_WEBHOOKS.new_secret
    secret, wrong = STANDARD_WEBHOOKS.new_secret()[0], STANDARD_WEBHOOKS.new_secret()[0]
    strict.connect(STANDARD_WEBHOOKS, secret)
    time.sleep(REFRESHED_S)
    answers = [
        strict.post_signed(STANDARD_WEBHOOKS, strict.signed_request(STANDARD_WEBHOOKS, wrong))
        for _ in range(7)
    ]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    too_many(answers[-1], "address", PER_ADDRESS)
    assert (
        strict.post_signed(
            STANDARD_WEBHOOKS, strict.signed_request(STANDARD_WEBHOOKS, secret)
        ).status_code
        == 200
    )
