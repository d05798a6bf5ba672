"""Every line of a log is JSON with its time, whoever wrote it; no stream of lines repeats; nothing
personal and no secret stands in one.
"""

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.logs import REPEAT_S, Repetitions, redact
from services.shared.settings import ROOT

PROGRAM = """
import asyncio, logging, threading, warnings
import structlog
from services.shared.logs import configure_logs, log_what_ends_us

configure_logs("tested", "info")
log_what_ends_us()
log = structlog.get_logger()
"""


def lines(program: str) -> list[dict[str, Any]]:
    """The log of a program, each line of which has its time."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    found = [json.loads(line) for line in done.stderr.splitlines()]
    for line in found:
        assert line["service"] == "tested"
        assert {"timestamp", "level", "event"} <= line.keys()
    return found


def test_lines_of_libraries_warnings_and_uncaught_errors_are_json_too() -> None:
    found = lines(
        """
logging.getLogger("aiokafka.conn").error("unable to connect to %s", "ann@firm.example")
warnings.warn("old ways of rl_abc_secret")
def fail(): raise RuntimeError("whsec_c2VjcmV0 at smtp://user:word@host:25")
thread = threading.Thread(target=fail); thread.start(); thread.join()
class Broken:
    def __del__(self): fail()
Broken()
logging.getLogger("x").error("%d", "no number")
async def main():
    asyncio.get_running_loop().call_exception_handler({"message": "lost"})
asyncio.run(main())
fail()
"""
    )
    events = [line["event"] for line in found]
    assert events[0] == "unable to connect to …@…"
    assert "old ways of rl_…" in events[1]
    assert events[2:5] == ["thread_failed", "unraisable", "log_line_broken"]
    assert events[5:] == ["lost", "ended_by_error"]
    text = json.dumps(found, ensure_ascii=False)
    assert "Traceback" in text
    for secret in ("ann@", "c2VjcmV0", "user:word", "rl_abc_"):
        assert secret not in text


def test_a_stream_of_the_same_lines_is_one_line() -> None:
    """8,000 a second were seen of a client whose broker was away."""
    found = lines(
        """
for number in range(2000):
    logging.getLogger("lib").error("node %s is away", number)
    logging.getLogger("lib").error(f"node {number} is away, {number}")
    log.warning("waits", reason="away", tried=number)
    log.warning("waits", reason=f"lead {number % 2}")
for number in range(3):
    log.error("dead_letter", topic="t", offset=number)
    log.info("touch_sent", touch_id="same")
"""
    )
    events = [line["event"] for line in found]
    assert events == [
        "node 0 is away", "node 0 is away, 0", "waits", "waits", "waits",
        *["dead_letter", "touch_sent"] * 3,
    ]  # fmt: skip


def test_the_next_line_of_a_kind_says_how_many_were_left_out() -> None:
    now = [100.0]
    repetitions = Repetitions(lambda: now[0])
    assert [repetitions.left_out("kind") for _ in range(4)] == [0, None, None, None]
    assert repetitions.left_out("other") == 0
    now[0] += REPEAT_S
    assert repetitions.left_out("kind") == 3
    now[0] += REPEAT_S
    assert repetitions.left_out("kind") == 0


def test_kinds_without_end_cost_no_memory_without_end() -> None:
    repetitions = Repetitions()
    for number in range(5_000):
        assert repetitions.left_out(number) == 0
    assert len(repetitions._kinds) <= 1_000


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("to ann@firm.example: no", "to …@… no"),
        ("postgresql://u:p@host:5432/db", "postgresql://…@host:5432/db"),
        (
            "postgresql://host/db?password=hunter2&sslmode=require",
            "postgresql://host/db?password=…&sslmode=require",
        ),
        ("/v1/leads?email=jane%40acme.example", "…@…"),
        ("the key rl_1a_Zz-9 and whsec_aa/b+c=", "the key rl_… and whsec_…"),
        ("3 @ 4 a@b", "3 @ 4 a@b"),
    ],
)
def test_addresses_keys_and_passwords_are_taken_out(text: str, written: str) -> None:
    assert redact(None, "", {"event": text})["event"] == written
    nested = redact(None, "", {"event": "x", "more": [{"a": (text,)}]})
    assert nested["more"] == [{"a": [written]}]


@given(st.text(st.sampled_from("a@.: \"'</rl_"), max_size=60))
def test_redaction_takes_a_time_that_grows_with_the_text_only(text: str) -> None:
    began = time.perf_counter()
    redact(None, "", {"event": (text + "a@") * 20_000})
    assert time.perf_counter() - began < 2
