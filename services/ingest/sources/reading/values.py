"""Reads what an expression found as a text, a time or a number; null, false and '' are nothing."""

import math
from datetime import datetime
from typing import Any

from services.ingest.sources.reading.lenient import number_text
from services.shared.errors import Reject
from services.shared.playbook.expressions import datetime_of


def as_text(found: Any, where: str) -> str:
    """A text or a number as a text; '' for nothing. Raises Reject."""
    if found is None or found is False:
        return ""
    if isinstance(found, str):
        return found.strip()
    if isinstance(found, int | float) and found is not True:
        return number_text(found)
    raise Reject(
        "neither a text nor a number", where=where, remedy="let the expression find one value"
    )


def as_time(found: Any, where: str) -> datetime | None:
    """A moment; None for nothing. Raises Reject."""
    if found is None or found is False or found == "":
        return None
    try:
        if isinstance(found, str | int | float) and found is not True:
            return datetime_of(found)
    except ValueError:
        pass
    raise Reject(
        "not a time",
        where=where,
        remedy="send seconds or milliseconds since 1970, or 2026-01-02T03:04:05Z",
    )


def as_number(found: Any, where: str) -> float | None:
    """A finite number; None for nothing. Raises Reject."""
    if found is None or found is False or found == "":
        return None
    try:
        number = math.nan if found is True else float(found)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Reject("not a number", where=where, remedy="let the expression find a plain number")
    return number
