"""The routes of the library: its matrix, and single items as leads would get them."""

import uuid
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from services.nurture.library import ContentLibrary
from services.shared.http.acting import Acting, only
from services.shared.http.keys import BEARER
from services.shared.http.parameters import NO_NUL, only_declared
from services.shared.http.problems import refusals
from services.shared.http.rates import RateLimit

TESTS = "60/hour"  # of one sender
MAX_NAME = 200  # characters of the id of an item or a product
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Item = Annotated[str, Path(max_length=MAX_NAME, pattern=NO_NUL)]
_LEAD = "0f7a1f5e-5b0e-4f0e-8a43-6f2f8c1d9b11"
_PREVIEW: dict[str, Any] = {
    "item": "case-study-bottling",
    "lead": _LEAD,
    "product": "default",
    "to": "grace@acme.example",
    "subject": "Half the stops in a year",
    "text": "Hello Grace, …",
    "html": "<!doctype html>…",
}
_CELL: dict[str, Any] = {"stage": "awareness", "persona": "buyer", "topic": "cost"}
_LIBRARY: dict[str, Any] = {
    "stages": ["awareness"],
    "personas": ["buyer"],
    "topics": ["cost"],
    "languages": ["en"],
    "cells": [_CELL | {"items": ["budget-questions"]}],
    "gaps": [
        {"stage": "awareness", "persona": "buyer", "language": "en", "items": 1, "needed": 3,
         "why": "1 item in en, 3 needed"},
    ],
    "overload": [],
    "ending": [{"item": "budget-questions", "valid_until": "2026-05-20", "ended": False}],
    "unused": [],
    "items": [
        {"id": "budget-questions", "title": "Questions before the budget", "stages": ["awareness"],
         "personas": ["buyer"], "products": [], "topic": "cost", "format": "article", "distance": 0,
         "language": "en", "countries": [], "valid_until": "2026-05-20",
         "objective": "Cost is seen as something to be steered", "state": "live"},
    ],
    "exhausted": [
        {"program": "buyer-track", "stage": "awareness", "persona": "buyer", "language": "en",
         "readers": 40, "exhausted": 2, "soon": 5, "first_at": "2026-05-17T12:00:00Z",
         "per_week": 1.0, "days_ahead": 14,
         "says": "buyer-track, awareness, buyer (en): of 40 readers 2 have had everything, 5 more "
         "will have in 14 days, at 1.0 touches a week"},
    ],
    "learned": [],
}  # fmt: skip


class CellResponse(BaseModel):
    """The ids of the items on a topic for a persona in a stage."""

    stage: str
    persona: str
    topic: str
    items: list[str]


class GapResponse(BaseModel):
    """A reader in a stage for whom a language has fewer items than are needed."""

    stage: str
    persona: str
    language: str
    items: int
    needed: int
    why: str


class OverloadResponse(CellResponse):
    """More on one topic than a reader in a stage can want."""

    why: str


class EndingResponse(BaseModel):
    """An item whose last day is past (`ended`) or within 14 days."""

    item: str
    valid_until: date
    ended: bool


class SegmentResponse(BaseModel):
    """The readers of a program in a stage: how many have had everything that it holds for them, and
    how many more will have within `days_ahead`, the first of them at `first_at`; `per_week` is the
    mean of touches that a reader gets.
    """

    program: str
    stage: str
    persona: str
    language: str
    readers: int
    exhausted: int
    soon: int
    first_at: Time | None
    per_week: float
    days_ahead: int
    says: str


class ValueResponse(BaseModel):
    """What touches of an item brought: the share after which the lead went a stage on by its own
    acts within 14 days, less those that it answered by unsubscribing; without `content` those of
    all items together.
    """

    content: str | None = None
    progress: float
    standard_error: float
    touches: int


class LearnedResponse(BaseModel):
    """Whether the learned choice of a program beats its best single item; null while too little is
    known.
    """

    program: str
    touches: int
    learned: ValueResponse
    best_single_item: ValueResponse | None
    items: list[ValueResponse]
    beats_best_single_item: bool | None
    says: str


class ItemResponse(BaseModel):
    """What an item declares."""

    id: str
    title: str
    stages: list[str]
    personas: list[str]
    products: list[str]
    topic: str
    format: str
    distance: int
    language: str
    countries: list[str]
    valid_until: date | None
    objective: str
    state: Literal["draft", "live"]


class LibraryResponse(BaseModel):
    """What can be offered today by stage, persona and topic; `unused` are ids of items in no live
    program. What is read of leads (`exhausted`, `learned`) may be some minutes old.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_LIBRARY]})

    stages: list[str]
    personas: list[str]
    topics: list[str]
    languages: list[str]
    cells: list[CellResponse]
    gaps: list[GapResponse]
    overload: list[OverloadResponse]
    ending: list[EndingResponse]
    unused: list[str]
    items: list[ItemResponse]
    exhausted: list[SegmentResponse]
    learned: list[LearnedResponse]


class PreviewResponse(BaseModel):
    """An item as a lead would get it, with plain links; `to` is the lead's address."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PREVIEW]})

    item: str
    lead: str
    product: str
    to: str
    subject: str
    text: str
    html: str


class ContentTest(BaseModel):
    """Who gets a test, and as which lead it is rendered; of its first product unless one is
    named.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"to": "ada@millwarden.example", "lead": _LEAD}]},
    )

    to: str = Field(max_length=320, pattern=NO_NUL)
    lead: uuid.UUID
    product: str = Field("", max_length=MAX_NAME, pattern=NO_NUL)


def create_router(library: ContentLibrary, may_query: Callable[..., Any]) -> APIRouter:
    """The routes; `may_query` raises for who may not read."""
    reads = [Depends(BEARER), Depends(may_query), Depends(only_declared)]
    router = APIRouter(tags=["content"], dependencies=reads)
    tests = RateLimit("sender", TESTS)

    @router.get("/v1/content", responses=refusals(400, 401, 403, 422, 429, 503))
    async def content() -> LibraryResponse:
        """The matrix of the library with its gaps, what is too much, what ends, and which readers
        will soon have had all of it.
        """
        return LibraryResponse.model_validate(await library.report())

    @router.get("/v1/content/{item}/preview", responses=refusals(400, 401, 403, 404, 422, 429, 503))
    async def preview(
        item: Item,
        lead: uuid.UUID,
        product: Annotated[str, Query(max_length=MAX_NAME, pattern=NO_NUL)] = "",
    ) -> PreviewResponse:
        """An item as a lead would get it; nothing is sent or recorded."""
        return PreviewResponse(**(await library.preview(item, lead, product)).report())

    @router.post(
        "/v1/content/{item}/test",
        dependencies=[only("marketing", "admin")],
        responses=refusals(400, 401, 403, 404, 413, 422, 429, 503),
    )
    async def test(item: Item, body: ContentTest, actor: Acting) -> PreviewResponse:
        """Sends an item to yourself as a lead would get it, marked as a test. Nothing goes to the
        lead or is recorded of it; who asked stands in the audit log.
        """
        tests.count(actor.id or str(actor))
        sent = await library.send_test(item, body.lead, body.product, body.to, actor)
        return PreviewResponse(**sent.report())

    return router
