"""What `ripeline learn` and `ripeline model` do: learning beside the live system, and putting
versions in use.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer import archive
from services.scorer.learning.learning import Verdict, learn
from services.scorer.model.fold import Fold
from services.scorer.models import COLD_START, Models, current, read_model, written
from services.scorer.queries.filters import LeadFilter
from services.scorer.queries.model import ForecastResponse, ModelQueries
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine, value
from services.shared.errors import Reject
from services.shared.people.audit import command_line, record
from services.shared.playbook.loading import load
from services.shared.playbook.sections import UNKNOWN, Playbook
from services.shared.playbook.stage_model import Model
from services.shared.settings import Settings

SAME = 1e-9  # relative difference of numbers that are the same

Progress = Callable[[str, float], None]


class Learned(NamedTuple):
    """What came of learning; `replaced` says whether the version is in use since."""

    replaced: bool
    why: str
    version: str
    running: str
    model: Model | None
    against: dict[str, Any] = {}


class Difference(NamedTuple):
    """A number, word or list that two versions have otherwise."""

    path: str
    before: Any
    after: Any


async def learn_from_archive(
    settings: Settings, *, use: bool, seed: int, with_curve: bool, progress: Progress
) -> Learned:
    """Learns from all stored events; stores the version, and puts it in use where it wins."""
    playbook, engine = load(settings.playbook), open_engine(settings, "learn")
    try:
        running = await current(engine, playbook)
        found = await _read(engine, Fold(playbook), settings, progress)
        source = "the archive" + ("" if found.share == 1 else f", {found.share:.0%} of its leads")
        verdict = learn(
            playbook, Fold(running.playbook), found.found, found.until, source,
            events=found.events, seed=seed, with_curve=with_curve, progress=progress,
        )  # fmt: skip
        return await _stored(engine, verdict, running.version, use=use)
    finally:
        await engine.dispose()


class Read(NamedTuple):
    """The archive, and the playbook by whose own model it was read."""

    playbook: Playbook
    archive: archive.Archive


async def read_archive(settings: Settings, progress: Progress) -> Read:
    """All stored events, as episodes."""
    playbook, engine = load(settings.playbook), open_engine(settings, "evidence")
    try:
        return Read(playbook, await _read(engine, Fold(playbook), settings, progress))
    finally:
        await engine.dispose()


async def _read(
    engine: AsyncEngine, fold: Fold, settings: Settings, progress: Progress
) -> archive.Archive:
    """The archive as of one moment."""
    now, done = Clock.parse(settings.clock).now_us(), 0
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        events = int(await value(connection, "SELECT count(*) FROM scorer.event"))

        def read(more: int) -> None:
            nonlocal done
            done += more
            progress("reading", done / max(events, 1))

        return await archive.read(connection, fold, now, read)


async def _stored(engine: Any, verdict: Verdict, running: str, *, use: bool) -> Learned:
    if verdict.model is None:
        return Learned(False, verdict.why, "", running, None)
    version = verdict.model.version
    async with engine.begin() as connection:
        models = Models(connection)
        await models.add(verdict.model)
        replaces = use and verdict.wins and running != version
        if replaces:
            await models.use(version, verdict.why)
            details = {"from": running}
            await record(connection, command_line(), "publish", f"model {version}", details)
    why = f"{version} is in use already" if running == version else verdict.why
    return Learned(replaces, why, version, running, verdict.model, verdict.against)


def in_file(version: str) -> Model | None:
    """The model of a file of that name; None where there is none. Raises Reject."""
    file = Path(version)
    is_file = file.suffix == ".json" and file.is_file()
    return read_model(file.read_text("utf-8")) if is_file else None


async def use(settings: Settings, version: str, model: Model | None = None) -> str:
    """Puts a version or the cold start in use, or a model that is stored with it; returns the
    version that was. Raises Reject for one that is not known or does not fit the playbook.
    """
    playbook, engine = load(settings.playbook), open_engine(settings)
    try:
        async with engine.begin() as connection:
            models = Models(connection)
            before = await models.in_use()
            if model:
                await models.add(model)
                version = model.version
            await models.playbook_under(playbook, version)
            if version != before:
                await models.use(version, "by hand")
                details = {"from": before}
                await record(connection, command_line(), "publish", f"model {version}", details)
            return before
    finally:
        await engine.dispose()


async def shown(settings: Settings, version: str = "") -> dict[str, Any]:
    """A version, the one in use where none is named, and which others there are."""
    playbook, engine = load(settings.playbook), open_engine(settings)
    try:
        async with engine.connect() as connection:
            models = Models(connection)
            in_use = await models.in_use()
            name = version or in_use
            model = playbook.model if name == COLD_START else await models.load(name)
            stored, uses = await models.stored(), await models.uses()
    finally:
        await engine.dispose()
    return described(name, model) | {
        "in_use": name == in_use,
        "versions": [COLD_START, *(each.version for each in stored)],
        "history": [
            {"version": use.version, "since": use.since.isoformat(), "why": use.why} for use in uses
        ],
    }


async def forecast(settings: Settings, asked: LeadFilter) -> ForecastResponse:
    """Expected outcomes of a list. Raises Reject for a product or stage that is none."""
    engine = open_engine(settings)
    try:
        in_use = await current(engine, load(settings.playbook))
        scoring = Scoring.of(in_use.playbook, Clock.parse(settings.clock))
        for where, name, known in (
            ("product", asked.product, scoring.playbook.products),
            ("stage", asked.stage, [*scoring.playbook.stages, UNKNOWN]),
        ):
            if name and name not in known:
                raise Reject(
                    f"no {where} {name!r}", where=where, remedy=f"use one of {', '.join(known)}"
                )
        product = asked.product or scoring.playbook.products[0]
        return await ModelQueries(engine, scoring).forecast(
            msgspec.structs.replace(asked, product=product)
        )
    finally:
        await engine.dispose()


def described(version: str, model: Model) -> dict[str, Any]:
    """A version as the command shows it."""
    learned = model.learned
    return {
        "version": version,
        "about": model.about,
        "stages": model.stages,
        "outcome": model.outcome,
        "horizon_days": model.horizon_days,
        "kappa": model.kappa,
        "calibrated": bool(learned and learned.calibrated),
        "training": learned.training.model_dump() if learned else None,
        "evidence": learned.evidence if learned else None,
    }


async def text_of(settings: Settings, version: str) -> str:
    """The file of a version."""
    return written((await _two(settings, version, COLD_START))[0])


async def difference(settings: Settings, before: str, after: str) -> list[Difference]:
    """What two versions have otherwise, but for what they were learned from."""
    one, other = await _two(settings, before, after)
    return different(one, other)


async def _two(settings: Settings, *versions: str) -> list[Model]:
    playbook: Playbook = load(settings.playbook)
    engine = open_engine(settings)
    try:
        async with engine.connect() as connection:
            models = Models(connection)
            return [
                playbook.model if version == COLD_START else await models.load(version)
                for version in versions
            ]
    finally:
        await engine.dispose()


def different(one: Model, other: Model) -> list[Difference]:
    """What two models have otherwise."""
    flat = [dict(_flat(model)) for model in (one, other)]
    return [
        Difference(path, *(each.get(path) for each in flat))
        for path in dict.fromkeys([*flat[0], *flat[1]])
        if not _same(*(each.get(path) for each in flat))
    ]


def _flat(model: Model) -> list[tuple[str, Any]]:
    body = model.model_dump(mode="json", exclude={"eigenbasis", "about"})
    learned = body.pop("learned") or {}
    layer = learned.get("layer") or {}
    for name, weight, scale in zip(
        layer.get("names", ()), layer.get("weight", ()), layer.get("scale", ()), strict=True
    ):
        body[f"layer.{name}"] = weight / scale
    for each in learned.get("attributes", ()):
        body[f"attribute.{each.pop('trait')}"] = each
    body |= {name: learned.get(name) for name in ("fit", "calibration")}
    out: list[tuple[str, Any]] = []

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                walk(f"{path}.{name}" if path else name, each)
        elif isinstance(value, list) and len(value) == len(model.stages):
            for stage, each in zip(model.stages, value, strict=True):
                walk(f"{path}.{stage}", each)
        else:
            out.append((path, value))

    walk("", body)
    return out


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) <= SAME * max(abs(one), abs(other))
    return bool(one == other)
