"""Every line of a log is JSON with its time: ours, those of libraries, warnings, and errors that
end a process. No personal data and no secret stands in one, and none repeats in a stream.
"""

import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, MutableMapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import structlog

REPEAT_S = 5.0  # a line is written once in this time; the next one says how many were left out
MOST_KINDS = 1_000  # of lines that are remembered
MOST_CHARACTERS = 20_000  # of one field
NOISY = {
    # each says the same on its own, and in other words, whenever a broker is away
    "aiokafka": logging.ERROR,
    "aiokafka.conn": logging.ERROR,
    "aiokafka.consumer.group_coordinator": logging.ERROR,
    "python_multipart": logging.ERROR,
    "uvicorn.error": logging.ERROR,
}
WORD = re.compile(r"[^\s\"'<>]+")
SECRET = re.compile(r"\b(password|passwd|secret|token)=[^\s&;\"'<>]+", re.IGNORECASE)
KEY = re.compile(r"(rl_[0-9a-z]+|whsec)_[A-Za-z0-9_+/=-]+")
NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
Event = MutableMapping[str, Any]


def redact(_: Any, __: str, event: Event) -> Event:
    """Takes mail addresses, keys, and users and passwords of URLs out of every text, also inside
    lists and mappings.
    """
    for name, field in event.items():
        event[name] = _redacted(field)
    return event


def _redacted(field: Any) -> Any:
    if isinstance(field, str):
        text = field if len(field) <= MOST_CHARACTERS else f"{field[:MOST_CHARACTERS]}…"
        if "@" in text or "%40" in text:
            text = WORD.sub(_without_address, text)
        return SECRET.sub(r"\1=…", KEY.sub(_without_secret, text))
    if isinstance(field, dict):
        return {_redacted(name): _redacted(value) for name, value in field.items()}
    if isinstance(field, list | tuple | set | frozenset):
        return [_redacted(value) for value in field]
    plain = field is None or isinstance(field, bool | int | float)
    return field if plain else _redacted(str(field))


def _without_secret(found: re.Match[str]) -> str:
    return f"{found[1].partition('_')[0]}_…"


def _without_address(found: re.Match[str]) -> str:
    word = found[0].replace("%40", "@")
    if "@" not in word:
        return word
    scheme, url, rest = word.partition("://")
    if url and "@" in rest:
        return f"{scheme}://…@{rest.rpartition('@')[2]}"
    before, _, after = word.partition("@")
    return "…@…" if before and "." in after else word


class Repetitions:
    """Which lines are like one that was just written. For all threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()
        self._lock = threading.RLock()

    def left_out(self, kind: Hashable) -> int | None:
        """None where a line of this kind is to be left out; else how many were since the last."""
        with self._lock:
            now = self._clock()
            written, count = self._kinds.get(kind, (now - REPEAT_S, 0))
            if now - written < REPEAT_S:
                self._kinds[kind] = written, count + 1
                return None
            self._kinds[kind] = now, 0
            self._kinds.move_to_end(kind)
            if len(self._kinds) > MOST_KINDS:
                self._kinds.popitem(last=False)
            return count

    def processor(self, _: Any, level: str, event: Event) -> Event:
        """Leaves out our own warnings that repeat: of the same event, and the same texts in it."""
        if level == "warning":
            texts = tuple((n, value) for n, value in event.items() if isinstance(value, str))
            self._note(event, self.left_out(texts))
        return event

    def _note(self, event: Event, count: int | None) -> None:
        if count is None:
            raise structlog.DropEvent
        if count:
            event["left_out"] = count


class _Handler(logging.StreamHandler[Any]):
    """Writes libraries' lines, each kind once in a while: those of one logger and one template."""

    def __init__(self, repetitions: Repetitions, formatter: logging.Formatter) -> None:
        super().__init__(sys.stderr)
        self._repetitions = repetitions
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.name, NUMBER.sub("#", str(record.msg)[:300])
        if (count := self._repetitions.left_out(kind)) is not None:
            record.left_out = count
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # logging's own name
        reason = type(sys.exc_info()[1]).__name__
        with suppress(Exception):
            structlog.get_logger().error("log_line_broken", logger=record.name, reason=reason)


def configure_logs(service: str, level: str) -> None:
    """Logs as JSON lines on stderr, with the service's name; libraries log warnings only."""
    repetitions = Repetitions()

    def named(_: Any, __: str, event: Event) -> Event:
        return {"service": service, **event}

    last: list[structlog.typing.Processor] = [
        named,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    written: list[structlog.typing.Processor] = [redact, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            repetitions.processor,
            *last,
            *written,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        foreign_pre_chain=[structlog.stdlib.add_logger_name, _add_left_out, *last],
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Handler)]
    root.addHandler(_Handler(repetitions, formatter))
    root.setLevel(logging.WARNING)
    for name, least in NOISY.items():
        logging.getLogger(name).setLevel(least)


def log_what_ends_us() -> None:
    """Has warnings, and errors that nobody caught, logged like everything else."""
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda error: _log_error("unraisable", error.exc_value)
    threading.excepthook = lambda error: _log_error("thread_failed", error.exc_value)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log_error("ended_by_error", error.with_traceback(trace))


def _log_error(event: str, error: BaseException | None) -> None:
    structlog.get_logger().error(event, exc_info=error)


def _add_left_out(_: Any, __: str, event: Event) -> Event:
    if count := getattr(event["_record"], "left_out", 0):
        event["left_out"] = count
    return event
