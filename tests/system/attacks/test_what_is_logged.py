"""What the attacks of this folder leave in the log; collected last."""

from tests.support.ingest_process import IngestProcess


def test_nothing_of_an_attack_stands_in_the_log(ingest: IngestProcess) -> None:
    """No address of a person, no key and no secret is logged, whatever was refused above."""
    ingest.post(
        "/v1/forms/demo",
        "public",
        data={"email": "somebody@signed.example", "_next": "https://evil.example/"},
    )
    written = ingest.log()
    for secret in (*ingest.keys.values(), "somebody@", "@signed.example", "whsec_"):
        assert secret not in written
