"""What `/health/ready` makes of a service's parts."""

from services.shared.http.health import Part, Ready


def test_a_service_is_ready_while_all_its_parts_can_work() -> None:
    said = Ready.of({"broker": Part(""), "keys": True})
    assert said.model_dump() == {
        "status": "ready", "parts": {"broker": True, "keys": True}, "why": {},
    }  # fmt: skip


def test_it_works_without_a_part_that_it_does_not_need_and_says_so() -> None:
    said = Ready.of({"broker": Part("away", needed=False), "keys": True})
    assert said.status == "degraded"
    assert said.parts == {"broker": False, "keys": True}
    assert said.why == {"broker": "away"}


def test_it_waits_for_a_part_that_it_needs() -> None:
    parts = {"broker": Part("away", needed=False), "keys": False, "outbox": Part("old")}
    said = Ready.of(parts)
    assert said.status == "waiting"
    assert said.why == {"broker": "away", "keys": "it cannot work yet", "outbox": "old"}
