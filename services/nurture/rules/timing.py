"""When a touch may go out: the ramp of an import, after the visit to the site, within the send
window of the lead's own time zone, on its country's working days. Pure.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from services.nurture.rules.time_zones import country_of, zones_of
from services.shared.contracts.events import Snapshot
from services.shared.contracts.provenance import Provenance
from services.shared.contracts.touch_reasons import WaitReason
from services.shared.playbook.sections import Cadence, Playbook
from services.shared.public_holidays import is_holiday

# more than the longest run of days off: one working day a week, and that a holiday several times
LOOK_AHEAD_DAYS = 40


class SendTime(NamedTuple):
    """When a touch may go out, and what it waits for."""

    due_at: datetime
    reason: WaitReason


def send_time(
    playbook: Playbook, snapshot: Snapshot, now: datetime, ramp: timedelta = timedelta()
) -> SendTime:
    """The first instant from `now` on; the reason is that of the last thing waited for."""
    due = SendTime(now + ramp, "ramp" if ramp else "")
    if snapshot.last_act_at:
        leaves = snapshot.last_act_at + timedelta(minutes=playbook.cadence.on_site_minutes)
        if leaves > due.due_at:
            due = SendTime(leaves, "on_site")
    company = playbook.company.timezone
    zones, country = zones_of(snapshot.traits, company), country_of(snapshot.traits, company)
    opens = window_opens(playbook.cadence, due.due_at, zones, country)
    return SendTime(opens, "quiet_hours") if opens > due.due_at else due


def window_opens(
    cadence: Cadence, moment: datetime, zones: Sequence[tzinfo], country: str = ""
) -> datetime:
    """The first instant from `moment` on outside quiet hours, on a working day in every zone and on
    no public holiday of the country (a code of ISO 3166), in UTC.

    Where no such instant lies within `LOOK_AHEAD_DAYS`, that of the first zone, else `moment`.
    """
    opens = moment
    while opens - moment < timedelta(days=LOOK_AHEAD_DAYS):
        asked = opens
        by_offset = {asked.astimezone(zone).utcoffset(): zone for zone in zones}
        opens = max(_opens_in(cadence, asked, zone, country) for zone in by_offset.values())
        if opens <= asked:
            return asked.astimezone(UTC)
    return _opens_in(cadence, moment, zones[0], country)


def _opens_in(cadence: Cadence, moment: datetime, zone: tzinfo, country: str) -> datetime:
    """The same in one zone."""
    local = moment.astimezone(zone)
    start, end = cadence.quiet_from, cadence.quiet_until
    for _ in range(2 * LOOK_AHEAD_DAYS):
        hour = local.hour
        quiet = start <= hour < end if start <= end else hour >= start or hour < end
        if not _is_working_day(cadence, local, country):
            local = _at(local + timedelta(days=1), 0)
        elif quiet:
            local = _at(local + timedelta(days=1) if hour >= start > end else local, end)
        else:
            return local.astimezone(UTC)
    return moment


def _at(local: datetime, hour: int) -> datetime:
    """That hour of the day; the first of two, and the next where a change of clocks leaves it
    out.
    """
    plain = local.replace(hour=hour, minute=0, second=0, microsecond=0, fold=0)
    return plain.astimezone(UTC).astimezone(local.tzinfo)


def _is_working_day(cadence: Cadence, local: datetime, country: str) -> bool:
    if local.weekday() not in cadence.working_days:
        return False
    return not (cadence.holidays and is_holiday(country, local.date()))


def ramp_of(imported: Provenance, lead: str) -> timedelta:
    """How long an imported new lead waits: drawn from its id, evenly over the days of the
    import.
    """
    if not imported.ramp_days:
        return timedelta()
    drawn = int.from_bytes(hashlib.sha256(f"ramp:{lead}".encode()).digest()[:8], "big") / 2**64
    return timedelta(days=imported.ramp_days * drawn)
