"""When a touch may go out: the ramp of an import, after the visit to the site, within the send
window of the lead's own time zone. Pure.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from services.nurture.rules.time_zones import zones_of
from services.shared.contracts.events import Snapshot
from services.shared.contracts.provenance import Provenance
from services.shared.contracts.touch_reasons import WaitReason
from services.shared.playbook.sections import Cadence, Playbook

LOOK_AHEAD_DAYS = 16  # more than any playbook's longest run of days off


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
    zones = zones_of(snapshot.traits, playbook.company.timezone)
    opens = window_opens(playbook.cadence, due.due_at, zones)
    return SendTime(opens, "quiet_hours") if opens > due.due_at else due


def window_opens(cadence: Cadence, moment: datetime, zones: Sequence[tzinfo]) -> datetime:
    """The first instant from `moment` on outside quiet hours and on a working day in every zone, in
    UTC.

    Where no such instant lies within `LOOK_AHEAD_DAYS`, that of the first zone, else `moment`.
    """
    opens = moment
    while opens - moment < timedelta(days=LOOK_AHEAD_DAYS):
        asked = opens
        by_offset = {asked.astimezone(zone).utcoffset(): zone for zone in zones}
        opens = max(_opens_in(cadence, asked, zone) for zone in by_offset.values())
        if opens <= asked:
            return asked.astimezone(UTC)
    return _opens_in(cadence, moment, zones[0])


def _opens_in(cadence: Cadence, moment: datetime, zone: tzinfo) -> datetime:
    """The same in one zone."""
    local = moment.astimezone(zone)
    start, end = cadence.quiet_from, cadence.quiet_until
    for _ in range(LOOK_AHEAD_DAYS):
        hour = local.hour
        quiet = start <= hour < end if start <= end else hour >= start or hour < end
        if not quiet and local.weekday() in cadence.working_days:
            return local.astimezone(UTC)
        if not quiet or hour >= start > end:
            local += timedelta(days=1)
        local = local.replace(hour=end, minute=0, second=0, microsecond=0)
    return moment


def ramp_of(imported: Provenance, lead: str) -> timedelta:
    """How long an imported new lead waits: drawn from its id, evenly over the days of the
    import.
    """
    if not imported.ramp_days:
        return timedelta()
    drawn = int.from_bytes(hashlib.sha256(f"ramp:{lead}".encode()).digest()[:8], "big") / 2**64
    return timedelta(days=imported.ramp_days * drawn)
