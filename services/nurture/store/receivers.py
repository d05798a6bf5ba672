"""What went to receivers of mail, what came back, and which are stopped.

The page and the command line read `access.receiver` too.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.receivers import (
    COUNTED,
    HOUR,
    STOP,
    STOPS,
    Counts,
    Verdict,
    answer_of,
    verdict,
)
from services.nurture.store.snapshots import uuid_of
from services.shared.contracts.consent import DELIVERY
from services.shared.contracts.events import ConsentChanged
from services.shared.db import rows

LOCK = 7167  # of whoever counts what goes out
# by what a refusal says on which basis
COLUMNS = {"email_complained": "complained_at", "email_bounced": "bounced_at"}
LONGEST_WHY = 500


class Refusal(NamedTuple):
    """What a receiver has against the sender, until when nothing goes there."""

    why: str
    until: datetime


class ReceiverStore:
    """Receivers within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self) -> None:
        """Has nobody else count what goes out, until the end of the transaction."""
        await self._run("SELECT pg_advisory_xact_lock(:lock)", lock=LOCK)

    async def sender_since(self, domain: str, now: datetime) -> datetime:
        """Since when mails go out from a domain; the first one since the first mail of all."""
        await self._run(
            """INSERT INTO nurture.sender SELECT :domain, CASE WHEN EXISTS (
                SELECT 1 FROM nurture.sender) THEN CAST(:now AS timestamptz) ELSE coalesce((
                SELECT min(sent_at) FROM nurture.touch WHERE channel = 'email'), :now) END
            ON CONFLICT DO NOTHING""",
            domain=domain, now=now,
        )  # fmt: skip
        found = await rows(
            self._connection, "SELECT since FROM nurture.sender WHERE domain = :domain",
            domain=domain,
        )  # fmt: skip
        return min(found[0].since, now)

    async def sent_since(self, moment: datetime, most: int) -> int:
        """How many mails went out since then, or are on the wire; not counted beyond `most`."""
        found = await rows(
            self._connection,
            """SELECT (SELECT count(*) FROM (SELECT 1 FROM nurture.touch WHERE receiver <> ''
                    AND status IN ('sent', 'unknown') AND sent_at >= :since LIMIT :most) s)
                + (SELECT count(*) FROM nurture.touch
                    WHERE status = 'sending' AND receiver <> '') AS n""",
            since=moment, most=most,
        )  # fmt: skip
        return int(found[0].n)

    async def last_times(
        self, receivers: Sequence[str], since: datetime, now: datetime, most: int
    ) -> dict[str, list[datetime]]:
        """The times of the last mails to each receiver since then, `most` of them; what is on the
        wire goes out at `now`.
        """
        times: dict[str, list[datetime]] = defaultdict(list)
        for row in await rows(
            self._connection, _LAST_TIMES, receivers=list(receivers), since=since, now=now,
            most=most,
        ):  # fmt: skip
            times[row.receiver].append(row.at)
        return times

    async def keep_reports(self, reports: Sequence[ConsentChanged]) -> None:
        """Notes of mails that came back or were called spam: those that are named, else the last
        ones to the addresses. What says that a receiver has something against the sender holds what
        goes there.
        """
        for basis, column in COLUMNS.items():
            alike = [one for one in reports if one.basis.partition(" ")[0] == basis]
            named = {touch: one.at for one in alike if (touch := uuid_of(one.touch))}
            others = {
                one.address: one.at for one in alike if one.address and not uuid_of(one.touch)
            }
            if named:
                await self._run(_NAMED.format(column), ids=[*named], times=[*named.values()])
            if others:
                await self._run(
                    _LAST.format(column), addresses=[*others], times=[*others.values()],
                    counted=COUNTED,
                )  # fmt: skip
        await self._refuse_by(reports)

    async def _refuse_by(self, reports: Sequence[ConsentChanged]) -> None:
        """Holds what goes to receivers that sent a mail back for what they have against the
        sender.
        """
        against = {
            touch: one
            for one in reports
            if (touch := uuid_of(one.touch))
            and one.purpose == DELIVERY
            and answer_of(one.basis).remedy
        }
        if not against:
            return
        found = await rows(
            self._connection,
            "SELECT id, receiver FROM nurture.touch WHERE id = ANY(:ids) AND receiver <> ''",
            ids=[*against],
        )
        for row in found:
            answer = answer_of(against[row.id].basis)
            why = f"a mail came back with {answer.status}: {answer.remedy}"
            await self.refuse(row.receiver, why, against[row.id].at)

    async def counts(self, receivers: Sequence[str], now: datetime) -> dict[str, Counts]:
        """Of these receivers, since they were released last."""
        found = await rows(
            self._connection, _COUNTS, receivers=list(receivers), since=now - COUNTED
        )
        return {row.receiver: Counts(row.sent, row.complained, row.bounced) for row in found}

    async def complaints(self, receivers: Sequence[str], now: datetime) -> dict[str, Counts]:
        """Of those of the receivers that enough people complain to: complaints, and mails as far as
        they decide whether that is a stop.
        """
        found = await rows(
            self._connection, _COMPLAINTS, receivers=list(receivers), since=now - COUNTED,
            stops=STOPS, stop=STOP,
        )  # fmt: skip
        return {row.receiver: Counts(row.sent, row.complained) for row in found}

    async def reported(self, now: datetime) -> list[str]:
        """The receivers that have something against our mails, or are reported to have."""
        found = await rows(
            self._connection,
            """SELECT DISTINCT receiver FROM nurture.touch
            WHERE receiver <> '' AND (complained_at > :since OR bounced_at > :since)
            UNION SELECT receiver FROM access.receiver""",
            since=now - COUNTED,
        )
        return [row.receiver for row in found]

    async def refusals(self, now: datetime) -> dict[str, Refusal]:
        """What receivers have against the sender at this moment."""
        found = await rows(
            self._connection,
            "SELECT receiver, why, until FROM nurture.receiver_refusal WHERE until > :now",
            now=now,
        )
        return {row.receiver: Refusal(row.why, row.until) for row in found}

    async def refuse(self, receiver: str, why: str, now: datetime) -> datetime:
        """Holds what goes to a receiver for an hour; returns until when."""
        await self._run(
            """INSERT INTO nurture.receiver_refusal VALUES (:receiver, :why, :until)
            ON CONFLICT (receiver) DO UPDATE SET why = excluded.why, until = excluded.until
                WHERE receiver_refusal.until < excluded.until""",
            receiver=receiver, why=why[:LONGEST_WHY], until=now + HOUR,
        )  # fmt: skip
        return now + HOUR

    async def tell(self, now: datetime) -> dict[str, Verdict]:
        """Writes down for people how each receiver stands that has something against our mails;
        returns what is made of them.
        """
        reported = await self.reported(now)
        counts, refusals = await self.counts(reported, now), await self.refusals(now)
        verdicts: dict[str, Verdict] = {}
        for receiver in sorted({*reported, *refusals}):
            refusal = refusals.get(receiver)
            of = counts.get(receiver, Counts())
            verdicts[receiver] = Verdict("stopped", refusal.why) if refusal else verdict(of)
            await self._tell(receiver, of, verdicts[receiver], now)
        return verdicts

    async def _tell(self, receiver: str, of: Counts, so: Verdict, now: datetime) -> None:
        if so.state == "ok" and not of.bounced:
            await self._run(
                "DELETE FROM access.receiver WHERE receiver = :receiver", receiver=receiver
            )
            return
        await self._run(
            """INSERT INTO access.receiver AS r VALUES
                (:receiver, :state, :why, :sent, :complained, :bounced, :now)
            ON CONFLICT (receiver) DO UPDATE SET state = excluded.state, why = excluded.why,
                sent = excluded.sent, complained = excluded.complained, bounced = excluded.bounced,
                since = CASE WHEN r.state = excluded.state THEN r.since ELSE excluded.since END""",
            receiver=receiver, state=so.state, why=so.why, now=now, **of._asdict(),
        )  # fmt: skip

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


_COMPLAINTS = """SELECT c.receiver, c.complained, s.sent FROM (
        SELECT t.receiver, l.at, count(DISTINCT address) AS complained FROM nurture.touch t
        LEFT JOIN nurture.receiver_release l USING (receiver)
        WHERE t.receiver = ANY(:receivers) AND complained_at IS NOT NULL
            AND sent_at > greatest(CAST(:since AS timestamptz), l.at)
        GROUP BY t.receiver, l.at HAVING count(DISTINCT address) >= :stops) c,
    LATERAL (SELECT count(*) AS sent FROM (SELECT 1 FROM nurture.touch o
        WHERE o.receiver = c.receiver AND o.sent_at > greatest(CAST(:since AS timestamptz), c.at)
        LIMIT floor(c.complained / CAST(:stop AS float8))::bigint + 1) o) s"""
_LAST_TIMES = """SELECT r.receiver, t.at FROM unnest(CAST(:receivers AS text[])) AS r(receiver),
    LATERAL (SELECT sent_at AS at FROM nurture.touch s WHERE s.receiver = r.receiver
        AND status IN ('sent', 'unknown') AND sent_at > :since ORDER BY sent_at DESC LIMIT :most) t
    UNION ALL SELECT receiver, CAST(:now AS timestamptz) FROM nurture.touch
        WHERE status = 'sending' AND receiver = ANY(:receivers)"""
_NAMED = """UPDATE nurture.touch t SET {0} = r.at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:times AS timestamptz[])) AS r(id, at)
    WHERE t.id = r.id AND t.channel = 'email' AND ({0} IS NULL OR {0} > r.at)"""
_LAST = """UPDATE nurture.touch t SET {0} = r.at FROM (
        SELECT DISTINCT ON (a.address) s.id, a.at FROM unnest(CAST(:addresses AS text[]),
            CAST(:times AS timestamptz[])) AS a(address, at)
        JOIN nurture.touch s ON s.address = a.address AND s.channel = 'email'
            AND s.status IN ('sent', 'unknown') AND s.sent_at <= a.at
            AND s.sent_at > a.at - CAST(:counted AS interval)
        ORDER BY a.address, s.sent_at DESC) r
    WHERE t.id = r.id AND ({0} IS NULL OR {0} > r.at)"""
_COUNTS = """SELECT t.receiver, count(sent_at) AS sent,
        count(DISTINCT address) FILTER (WHERE complained_at IS NOT NULL) AS complained,
        count(*) FILTER (WHERE bounced_at IS NOT NULL) AS bounced
    FROM nurture.touch t LEFT JOIN nurture.receiver_release l USING (receiver)
    WHERE t.receiver = ANY(:receivers)
        AND coalesce(sent_at, bounced_at) > greatest(CAST(:since AS timestamptz), l.at)
    GROUP BY t.receiver"""
