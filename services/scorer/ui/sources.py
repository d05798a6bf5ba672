"""What the page shows of the sources that ingest serves: how to set each up, and when it last
posted.
"""

from datetime import datetime
from typing import NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.ui.repository import PageRepository, StoredRemark, StoredSource
from services.scorer.wording import count_of
from services.shared.contracts.provenance import REMARK_SENTENCES

KEY_TO_MAKE = "rl_…"  # a secret key stands on no page

FORMS = "forms"  # the source whose events are forms
TAKEN = "something that was taken otherwise than as it was written"


class RemarkView(NamedTuple):
    """What was accepted otherwise than as it was written: the sentence, the field, what stood
    there, and what may have been meant.
    """

    sentence: str
    field: str
    text: str
    nearest: str
    last_at: datetime


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A source; `connected` where a signing sender's secret is in force."""

    name: str
    title: str
    address: str
    signs: bool
    connected: bool
    steps: list[str]
    snippet: str
    first_heard_at: datetime | None
    last_heard_at: datetime | None
    accepted: int
    refused: int
    last_refusal: str
    remarks: list[RemarkView]


async def sources(engine: AsyncEngine, public_key: str) -> list[SourceView]:
    """The sources that are served: those that have posted first, then those that sign and wait for
    a secret last.
    """
    async with engine.connect() as connection:
        found = await PageRepository(connection).sources()
        remarks = await PageRepository(connection).remarks()
    return [
        _view(source, public_key, [_remark(source.name, one) for one in remarks[source.name]])
        for source in found
    ]


def _remark(source: str, remark: StoredRemark) -> RemarkView:
    senders = count_of(remark.seen, "form" if source == FORMS else "event")
    what = REMARK_SENTENCES.get(remark.kind, f"{TAKEN} ({remark.kind.replace('-', ' ')})")
    return RemarkView(f"{senders} sent {what}", *remark[1:4], remark.last_at)


def _view(source: StoredSource, public_key: str, remarks: list[RemarkView]) -> SourceView:
    about = source.about
    return SourceView(
        name=source.name,
        title=about.title,
        address=about.address,
        signs=about.signs,
        connected=source.connected,
        steps=[_filled(step, public_key) for step in about.steps],
        snippet=_filled(about.snippet, public_key),
        first_heard_at=source.first_heard_at,
        last_heard_at=source.last_heard_at,
        accepted=source.accepted,
        refused=source.refused,
        last_refusal=source.last_refusal,
        remarks=remarks,
    )


def _filled(template: str, public_key: str) -> str:
    return template.replace("{key}", public_key or KEY_TO_MAKE).replace("{secret}", KEY_TO_MAKE)
