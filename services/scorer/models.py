"""Learned models: the versions that are stored, and which of them is in use."""

import asyncio
import json
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_transient, rows, value
from services.shared.errors import Reject, Restart, Retry
from services.shared.playbook.contradiction import did_you_mean
from services.shared.playbook.sections import Playbook
from services.shared.playbook.stage_model import Model
from services.shared.runtime import Heartbeat, refresh_every_second

log = structlog.get_logger()
COLD_START = "cold-start"  # what the playbook's own model is called


class Stored(NamedTuple):
    """A version, and when it was learned."""

    version: str
    learned_at: datetime


class Use(NamedTuple):
    """From when on a version was in use, and why."""

    version: str
    since: datetime
    why: str


class Models:
    """The stored versions, inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def in_use(self) -> str:
        """The version that is in use."""
        found = await value(
            self._connection, "SELECT version FROM scorer.model_use ORDER BY id DESC LIMIT 1"
        )
        return str(found or COLD_START)

    async def stored(self) -> list[Stored]:
        """All versions, the oldest first."""
        found = await rows(
            self._connection, "SELECT version, learned_at FROM scorer.model ORDER BY learned_at"
        )
        return [Stored(*row) for row in found]

    async def uses(self) -> list[Use]:
        """What was in use, the oldest first."""
        found = await rows(
            self._connection, "SELECT version, since, why FROM scorer.model_use ORDER BY id"
        )
        return [Use(row.version or COLD_START, row.since, row.why) for row in found]

    async def load(self, version: str) -> Model:
        """A stored version. Raises Reject where there is none."""
        body = await value(
            self._connection, "SELECT body FROM scorer.model WHERE version = :version",
            version=version,
        )  # fmt: skip
        if body is None:
            known = [COLD_START, *(stored.version for stored in await self.stored())]
            raise Reject(
                f"no model {version!r}",
                where="version",
                remedy=f"{did_you_mean(version, known)}known are {', '.join(known)}",
                kind="not-found",
            )
        return read_model(str(body))

    async def add(self, model: Model) -> None:
        """Stores a learned model under its version; one that is there stays."""
        await self._connection.execute(
            text(
                "INSERT INTO scorer.model (version, body) VALUES (:version, :body) "
                "ON CONFLICT (version) DO NOTHING"
            ),
            {"version": model.version, "body": written(model)},
        )

    async def use(self, version: str, why: str = "") -> None:
        """Puts a version, or COLD_START, in use."""
        await self._connection.execute(
            text("INSERT INTO scorer.model_use (version, why) VALUES (:version, :why)"),
            {"version": version, "why": why},
        )

    async def playbook_under(self, playbook: Playbook, version: str) -> Playbook:
        """The playbook under a version. Raises Reject where that does not fit it."""
        if version == COLD_START:
            return playbook
        model = await self.load(version)
        if why := misfit(playbook, model):
            raise Reject(f"the model {version} does not fit the playbook: {why}", where="version",
                         remedy="learn anew with `ripeline learn`")  # fmt: skip
        return playbook.with_model(model)


def misfit(playbook: Playbook, model: Model) -> str:
    """Why a model cannot be used with a playbook; '' where it can."""
    own = playbook.model
    if model.stages != own.stages:
        return "its stages are others"
    if list(model.rate) != list(own.rate):
        return "its marks are others"
    if model.outcome != own.outcome:
        return f"it predicts {model.outcome}"
    if set(model.given_send) != set(own.given_send):
        return "it knows other answers to mails"
    return ""


def written(model: Model) -> str:
    """A model as its file holds it: the same model gives the same bytes."""
    return json.dumps(model.model_dump(mode="json"), indent=1) + "\n"


def read_model(body: str) -> Model:
    """The model of a file's text. Raises Reject."""
    try:
        return Model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Reject(f"no model file: {first['msg']}", where=where,
                     remedy="docs/model.schema.json says what one holds") from None  # fmt: skip


class Current(NamedTuple):
    """The version in use, and the playbook under it."""

    version: str
    playbook: Playbook


async def current(engine: AsyncEngine, playbook: Playbook) -> Current:
    """The playbook under the version in use; its own where that does not fit any more, or as long
    as the database is away.
    """
    version = ""
    try:
        async with engine.connect() as connection:
            models = Models(connection)
            version = await models.in_use()
            return Current(version, await models.playbook_under(playbook, version))
    except Reject as reject:
        log.error("model_not_used", version=version, problem=str(reject))
        return Current(version, playbook)
    except Exception as error:
        if not is_transient(error):
            raise
        log.warning("model_waits", reason=type(error).__name__)
        return Current("", playbook)


class ModelWatch:
    """Ends the service, to be wired anew, when another version is in use than it was wired with;
    what folds begins once that is known.
    """

    def __init__(self, engine: AsyncEngine, version: str) -> None:
        self._engine, self._version = engine, version
        self._confirmed = asyncio.Event()

    async def run(self, heartbeat: Heartbeat, rest: Heartbeat) -> None:
        """Watches until cancelled; calls `rest` while others wait for it. Raises Restart."""

        def turn() -> None:
            heartbeat()
            if not self._confirmed.is_set():
                rest()

        await refresh_every_second(self._look, turn, "model_waits")

    async def after(self, task: Coroutine[Any, Any, Any]) -> None:
        """Begins a task once the version is known to be in use."""
        try:
            await self._confirmed.wait()
        except BaseException:
            task.close()
            raise
        await task

    async def _look(self) -> None:
        try:
            async with self._engine.connect() as connection:
                version = await Models(connection).in_use()
        except Exception as error:
            if is_transient(error):
                raise Retry(f"the database is away: {type(error).__name__}") from error
            raise
        if version != self._version:
            log.info("model_replaced", before=self._version, after=version)
            raise Restart(f"the model {version} is in use")
        self._confirmed.set()
