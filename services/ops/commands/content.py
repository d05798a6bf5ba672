"""What the library covers, and which readers will soon have had all of it."""

from datetime import datetime
from typing import Any

from services.ops.commands.exhaustion import of_database
from services.shared.db import is_away, open_engine
from services.shared.playbook.coverage import coverage
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings


async def report(settings: Settings, playbook: Playbook, now: datetime) -> dict[str, Any]:
    """The matrix as JSON has it; `exhausted` is None where no database answers."""
    covered = coverage(playbook, now.date())
    plain = covered._asdict() | {
        "cells": [cell._asdict() for cell in covered.cells],
        "gaps": [gap._asdict() for gap in covered.gaps],
        "overload": [over._asdict() for over in covered.overload],
        "ending": [
            ending._asdict() | {"valid_until": ending.valid_until.isoformat()}
            for ending in covered.ending
        ],
        "items": [
            item.model_dump(
                mode="json",
                include={
                    "id", "title", "stages", "personas", "products", "topic", "format", "distance",
                    "language", "countries", "valid_until", "objective", "state",
                },
            )
            for item in playbook.content
        ],
    }  # fmt: skip
    engine = open_engine(settings)
    try:
        found = await of_database(engine, playbook, settings, now)
        exhausted = [segment.report() for segment in found]
    except Exception as error:
        if not is_away(error):
            raise
        exhausted = None
    finally:
        await engine.dispose()
    return plain | {"exhausted": exhausted}
