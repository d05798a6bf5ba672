"""The watchdog ends a process in which the event loop or another loop stands still."""

import json
import subprocess
import sys
import time

import pytest

from services.shared.runtime import EXIT_STALLED
from services.shared.settings import ROOT

LIMIT_S = 1.0
PROGRAM = f"""
import asyncio, ctypes, re, time
import uvloop
from services.shared.logs import configure_logs, log_what_ends_us
from services.shared.runtime import Watchdog

configure_logs("tested", "info")
log_what_ends_us()
watchdog = Watchdog({LIMIT_S})

async def steady(heartbeat):
    while True:
        heartbeat()
        await asyncio.sleep(0.05)

async def waits_for_ever(heartbeat):
    heartbeat()
    await asyncio.Event().wait()

def sleeps():
    time.sleep(60)

def turns():
    while True:
        pass

def matches():
    re.match("(a|a)*b", "a" * 60)

def calls_c_with_the_interpreter_held():
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

async def main():
    steps = [steady(watchdog.heartbeat("steady")), watchdog.watch()]
    tasks = [asyncio.create_task(step) for step in steps]
    await asyncio.sleep(0.1)
    ACT
    await asyncio.gather(*tasks)

uvloop.run(main())
"""


def ended(act: str) -> tuple[int, str, float]:
    """Exit status, log and seconds of a program that does this in its event loop."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("ACT", act)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr, time.monotonic() - began


@pytest.mark.parametrize("act", ["sleeps", "turns", "matches"])
def test_a_blocked_event_loop_ends_the_process_and_its_stack_is_logged(act: str) -> None:
    """O4: also amid a regular expression, which lets no thread run."""
    code, log, seconds = ended(f"{act}()")
    assert code == EXIT_STALLED, log
    assert seconds < 5 * (LIMIT_S + 2)
    [line] = [json.loads(line) for line in log.splitlines()]
    assert (line["event"], line["service"], line["level"]) == ("loop_stalled", "tested", "error")
    assert {"event loop", "interpreter"} & set(line["loops"])
    assert f"in {act}" in line["stack"]
    assert "timestamp" in line


def test_even_a_call_that_holds_the_interpreter_is_ended() -> None:
    code, log, _ = ended("calls_c_with_the_interpreter_held()")
    assert code == 1
    assert "in calls_c_with_the_interpreter_held" in log


def test_one_loop_that_waits_for_ever_is_named_with_what_it_waits_for() -> None:
    code, log, _ = ended(
        'tasks.append(asyncio.create_task(waits_for_ever(watchdog.heartbeat("hung"))))'
    )
    assert code == EXIT_STALLED, log
    [line] = [json.loads(line) for line in log.splitlines()]
    assert line["loops"] == ["hung"]
    assert any("waits_for_ever" in wait and "Event.wait" in wait for wait in line["waits"])


def test_loops_that_turn_are_left_alone_and_the_alarm_ends_with_the_watchdog() -> None:
    act = (
        f"await asyncio.sleep({3 * LIMIT_S}); [task.cancel() for task in tasks]; "
        f"await asyncio.wait(tasks); time.sleep({2 * LIMIT_S}); print('alive'); return"
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("ACT", act)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")
