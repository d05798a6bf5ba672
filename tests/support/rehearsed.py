"""What anybody can check of a rehearsal from its three files, by what nurture promises; it knows
nothing of how that is kept.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import holidays

FIELDS = {
    "lead", "account", "program", "announcement", "at", "local", "stage", "belief", "sales_status",
    "content", "content_stages", "distance", "max_distance", "prerequisites", "channel", "purpose",
    "decision", "reason", "arm", "propensity", "consent_since",
}  # fmt: skip
HANDED_OVER = {"accepted", "opportunity", "won", "lost", "refunded", "churned"}
WITH_SALES = {"accepted", "opportunity"}
AT_ONCE = timedelta(seconds=5)
KNOWN = holidays.list_supported_countries()
Row = dict[str, Any]


def read(lines: bytes) -> list[Row]:
    """The objects of JSON Lines."""
    return [json.loads(line) for line in lines.splitlines()]


def violations(touches: list[Row], events: list[Row], summary: Row) -> list[str]:
    """Each broken promise, with the line that breaks it."""
    return [
        *_of_each(touches, summary),
        *_of_leads(touches, events, summary),
        *_of_keys(touches),
        *_of_arms(touches),
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _is_unasked(row: Row) -> bool:
    return bool(row["decision"] == "sent" and row["purpose"] != "service")


def _of_each(touches: list[Row], summary: Row) -> Iterator[str]:
    for row in touches:
        if missing := FIELDS - row.keys():
            yield f"fields are missing: {missing}: {row}"
        if _time(row["at"]) != _time(row["local"]) or _time(row["local"]).tzinfo is None:
            yield f"another instant: {row}"
        if row["decision"] not in ("sent", "withheld"):
            yield f"neither sent nor withheld: {row}"
        if row["decision"] == "withheld" and not row["reason"]:
            yield f"withheld for no reason: {row}"
        if not 0 < row["propensity"] <= 1:
            yield f"no probability: {row}"
        if abs(sum(row["belief"].values()) - 1) > 1e-9 or min(row["belief"].values()) < 0:
            yield f"no distribution: {row}"
        if row["decision"] == "sent" and not (row["content"] and row["channel"]):
            yield f"sent nothing: {row}"
        if row["decision"] == "sent" and row["stage"] not in row["content_stages"]:
            yield f"for another stage: {row}"
        if row["decision"] == "sent" and row["distance"] > row["max_distance"]:
            yield f"too far: {row}"
        if _is_unasked(row):
            yield from _of_unasked(row, summary)


def _of_unasked(row: Row, summary: Row) -> Iterator[str]:
    at, local = _time(row["at"]), _time(row["local"])
    if not row["consent_since"] or _time(row["consent_since"]) > at:
        yield f"without consent: {row}"
    start, end = summary["quiet"]
    clock = f"{local:%H:%M}"
    if start <= clock < end if start <= end else clock >= start or clock < end:
        yield f"in quiet hours: {row}"
    if local.isoweekday() not in summary["working_days"]:
        yield f"on a day off: {row}"
    if summary["holidays"] and row["country"]:
        country, year = row["country"], local.year
        if country in KNOWN and local.date() in holidays.country_holidays(country, years=year):
            yield f"on a public holiday: {row}"
    presses = row["purpose"] in ("promotion", "sales") and row["stage"] != "customer"
    if presses and row["sales_status"] not in HANDED_OVER:
        yield f"promotion before the hand-off: {row}"
    if row["sales_status"] in WITH_SALES:
        yield f"while sales works with the lead: {row}"


def _of_leads(touches: list[Row], events: list[Row], summary: Row) -> Iterator[str]:
    acts: dict[str, list[Row]] = defaultdict(list)
    for event in events:
        acts[event["lead"]].append(event)
    sent: dict[str, list[Row]] = defaultdict(list)
    for row in touches:
        if row["decision"] == "sent":
            sent[row["lead"]].append(row)
    for lead, rows in sent.items():
        unasked = [row for row in rows if _is_unasked(row)]
        yield from _of_amount([_time(row["at"]) for row in unasked], lead, summary)
        yield from _of_calendar([row for row in unasked if row["arm"] == "calendar"], summary)
        had: set[str] = set()
        for row in rows:
            if _is_unasked(row):
                if row["content"] in had:
                    yield f"the same again: {row}"
                yield from _of_history(row, acts[lead], summary)
            else:
                yield from _of_request(row, acts[lead])
            had.add(row["content"])


def _of_amount(times: list[datetime], lead: str, summary: Row) -> Iterator[str]:
    for place, at in enumerate(times):
        for cap in summary["caps"]:
            span = timedelta(days=cap["days"])
            if sum(at - span <= before for before in times[: place + 1]) > cap["max"]:
                yield f"above the cap of {cap}: {lead} {at}"
        apart = timedelta(hours=summary["min_hours_between"])
        if place and at - times[place - 1] < apart:
            yield f"too soon after another: {lead} {at}"


def _of_calendar(rows: list[Row], summary: Row) -> Iterator[str]:
    """An item every so many days, by the author's order alone."""
    for before, row in pairwise(rows):
        apart = timedelta(days=summary["calendar_arm"]["days"])
        if _time(row["at"]) - _time(before["at"]) < apart:
            yield f"before its day: {row}"
        if row["propensity"] != 1:
            yield f"drawn: {row}"


def _of_history(row: Row, acts: list[Row], summary: Row) -> Iterator[str]:
    at = _time(row["at"])
    before = [act for act in acts if _time(act["at"]) <= at]
    done = {act["content_id"] for act in before}
    if missing := set(row["prerequisites"]) - done:
        yield f"before {missing}: {row}"
    if row["content"] in done:
        yield f"what the lead has done: {row}"
    since = row["consent_since"] and _time(row["consent_since"])
    if any(act["type"] == "unsubscribed" and _time(act["at"]) > since for act in before):
        yield f"after unsubscribing: {row}"
    on_site = timedelta(minutes=summary["on_site_minutes"])
    if any(act["type"] == "page_viewed" and at - _time(act["at"]) < on_site for act in before):
        yield f"while on the site: {row}"


def _of_request(row: Row, acts: list[Row]) -> Iterator[str]:
    at = _time(row["at"])
    if not any(timedelta(0) <= at - _time(act["at"]) <= AT_ONCE for act in acts):
        yield f"asked for, and not at once: {row}"


def _of_keys(touches: list[Row]) -> Iterator[str]:
    seen: set[tuple[Any, ...]] = set()
    for row in touches:
        cause = row["announcement"] or (row["lead"], row["follows"])
        if (key := (cause, row["program"])) in seen:
            yield f"decided twice: {row}"
        seen.add(key)


def _of_arms(touches: list[Row]) -> Iterator[str]:
    arms: dict[str, str] = {}
    for row in touches:
        if _is_unasked(row) and row["arm"] == "holdout":
            yield f"to the hold-out: {row}"
        for unit in (row["lead"], row["account"]):
            if arms.setdefault(unit, row["arm"]) != row["arm"]:
                yield f"in both arms: {row}"
