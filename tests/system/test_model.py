"""A learned model in a running system: in use without a restart by anybody, and back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.scorer.models import COLD_START, written
from tests.support.learned import with_layer
from tests.support.running_system import System, wait_until


def ripeline(system: System, *arguments: str) -> dict[str, Any]:
    """What a command says in JSON."""
    variables = {
        "RIPELINE_DATABASE_URL": system.database, "RIPELINE_KAFKA_BOOTSTRAP": system.kafka,
    }  # fmt: skip
    done = CliRunner().invoke(command_line, [*arguments, "--json"], env=variables)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_model_goes_live_and_back_while_the_system_runs(system: System, tmp_path: Path) -> None:
    """The scorer builds itself again; the lead's number is the other model's, and its ledger
    adds up to it (S5, S7).
    """
    email = system.address()
    for type_ in ("page_viewed", "pricing_viewed"):
        system.post_event(type=type_, email=email, traits={"title": "CTO"})
    cold = system.wait_for_lead(2, email=email)
    assert not cold["calibrated"]
    before = dict(system.pids)
    file = tmp_path / "model.json"
    playbook = with_layer(system.playbook)
    file.write_text(written(playbook.model))
    try:
        said = ripeline(system, "model", "use", str(file))
        assert said == {"version": "drawn-0", "before": COLD_START, "replaced": True}
        learned = wait_until(
            lambda: (lead := answered(system, email)) and lead["calibrated"] and lead
        )
        assert learned["likelihood"] != pytest.approx(cold["likelihood"], abs=1e-3)
        ledger = system.query(f"/v1/leads/{learned['id']}/explain")
        logit = math.log(ledger["likelihood"] / (1 - ledger["likelihood"]))
        assert ledger["start"] + math.fsum(line["delta"] for line in ledger["lines"]) == (
            pytest.approx(logit, abs=1e-9)
        )
        assert system.query("/v1/model")["version"] == "drawn-0"
        system.post_event(type="demo_requested", email=email)
        wait_until(lambda: (lead := answered(system, email)) and lead["stage"] == "decision")
        forecast = ripeline(system, "forecast")
        assert forecast["model"] == "drawn-0"
        assert ripeline(system, "status")["model"] == "drawn-0"
    finally:
        assert ripeline(system, "model", "use", COLD_START)["before"] == "drawn-0"
    wait_until(lambda: (lead := answered(system, email)) and not lead["calibrated"])
    assert dict(system.pids) == before
    history = ripeline(system, "model", "show")["history"]
    assert isinstance(history, list)
    assert [use["version"] for use in history][-2:] == ["drawn-0", COLD_START]


def answered(system: System, email: str) -> dict[str, Any] | None:
    """The lead; None while the scorer does not answer."""
    try:
        return system.lookup(email=email)
    except (AssertionError, OSError):
        return None
    except Exception as error:
        if "Connect" in type(error).__name__ or "Protocol" in type(error).__name__:
            return None
        raise


def test_learning_from_a_young_archive_says_why_nothing_changes(system: System) -> None:
    said = ripeline(system, "learn", "--no-curve")
    assert said["replaced"] is False
    assert said["running"] == COLD_START
    assert said["why"]
