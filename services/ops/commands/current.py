"""Which system the commands are about."""

import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from services.ops.embedded.state import RunningSystem, running_systems
from services.shared.errors import Reject
from services.shared.settings import Settings

DATABASE = "RIPELINE_DATABASE_URL"


class Addressing(NamedTuple):
    """What the caller says of the system: its folder or address, '' for nothing; and what is
    called with a sentence on the one that is addressed.
    """

    named: str = ""
    announce: Callable[[str], None] = lambda _: None


_NOTHING = Addressing()
_addressing: ContextVar[Addressing] = ContextVar("addressing")


def address(named: str = "", announce: Callable[[str], None] = lambda _: None) -> None:
    """Has what follows address the system with that folder or address, if one is named."""
    _addressing.set(Addressing(named, announce))


def current_settings() -> Settings:
    """The settings of the addressed system; without one, the environment's own. Raises Reject."""
    system = current_system()
    settings = Settings.of(system.environ if system else {})
    _addressing.get(_NOTHING).announce(f"system: {described(system, settings)}")
    return settings


def current_address() -> str:
    """What tells the addressed system from others: its ingest; of the environment's its database,
    without a password. Raises Reject.
    """
    system = current_system()
    return system.address if system else _database(Settings.of({}))


def current_system() -> RunningSystem | None:
    """The running system that is named; else the one of the database that the environment names;
    else the only one that runs for this user, or was started in this folder. None where the
    environment is meant. Raises Reject.
    """
    systems, named = running_systems(), _addressing.get(_NOTHING).named
    if named:
        return _only([system for system in systems if system.is_at(named)], named, systems)
    if database := os.environ.get(DATABASE):
        return next((each for each in systems if each.environ.get(DATABASE) == database), None)
    if len(systems) > 1:
        here = [system for system in systems if system.directory == str(Path.cwd().resolve())]
        return here[0] if len(here) == 1 else _only(systems, "", systems)
    return systems[0] if systems else None


def described(system: RunningSystem | None, settings: Settings) -> str:
    """The addressed system in a few words, without secrets."""
    if system:
        started = f"`ripeline {system.command}` (pid {system.up}) in {system.directory}"
        return f"{system.address}, {started}"
    by = DATABASE if os.environ.get(DATABASE) else "the settings"
    return f"the database {_database(settings)}, by {by}"


def _database(settings: Settings) -> str:
    parts = urlsplit(settings.database_url.get_secret_value())
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


def _only(found: list[RunningSystem], named: str, systems: list[RunningSystem]) -> RunningSystem:
    """The one that was found. Raises Reject with those that run."""
    if len(found) == 1:
        return found[0]
    known = "; ".join(
        f"--system {each.address} (`ripeline {each.command}` in {each.directory})"
        for each in found or systems
    )
    if found:
        where = f" started in {named}" if named else ""
        raise Reject(f"{len(found)} systems run{where}", remedy=f"say which one: {known}")
    remedy = known and f"running are: {known}"
    raise Reject(
        f"no system of this user runs at {named}",
        where="--system",
        remedy=remedy
        or f"start one with `ripeline up`; name a distant one by {DATABASE} and "
        "RIPELINE_KAFKA_BOOTSTRAP",
    )
