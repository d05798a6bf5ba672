"""A sender who fills the spool fills its own share only."""

from pathlib import Path

from tests.support.databases import new_database
from tests.support.ingest_process import IngestProcess
from tests.support.ports import free_port
from tests.support.refusals import refused
from tests.support.servers import Postgres

ROOM = 400_000  # bytes of its spool


def test_one_noisy_sender_and_the_spool(scratch: Path, postgres: Postgres) -> None:
    """While the broker is away a sender fills its own share of the spool only: others still get in,
    and whoever has filled it learns it.
    """
    lonely = f"127.0.0.1:{free_port()}"
    ingest = IngestProcess(
        scratch / "lonely", new_database(postgres), lonely, spool_max_bytes=str(ROOM)
    )
    other = ingest.new_key("public", name="other")
    ingest.start()
    try:
        body = {"email": "noisy@signed.example", "words": "w" * 5000}
        answers = [ingest.post("/v1/forms/demo", "public", data=body) for _ in range(30)]
        kinds = [
            200 if answer.status_code == 200 else refused(answer, 503, "spool-share")["status"]
            for answer in answers
        ]
        assert kinds == sorted(kinds)
        assert 10 <= kinds.count(200) < 30
        assert int(answers[-1].headers["retry-after"]) > 0
        assert ingest.metric("ripeline_spool_share_total") == kinds.count(503)
        assert ROOM / 5 < ingest.metric("ripeline_spool_bytes") <= ROOM / 4
        quiet = ingest.http.post(
            f"{ingest.url}/v1/forms/demo", data=body, headers={"Authorization": f"Bearer {other}"}
        )
        assert quiet.status_code == 200
        ingest.kill()
        ingest.start()
        refused(ingest.post("/v1/forms/demo", "public", data=body), 503, "spool-share")
    finally:
        ingest.stop()
