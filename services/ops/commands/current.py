"""Which system the commands are about."""

import os

from services.ops.embedded.state import running_system
from services.shared.settings import Settings


def current_settings() -> Settings:
    """The settings of the system that runs for this user, unless the environment names another
    database; else the environment's own.
    """
    system, database = running_system(), os.environ.get("RIPELINE_DATABASE_URL")
    if system is None or (database and database != system.environ.get("RIPELINE_DATABASE_URL")):
        return Settings.of({})
    return Settings.of(system.environ)
