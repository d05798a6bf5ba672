"""What is known of the model in use: where it comes from, whether it is true, what it forecasts."""

from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.checking import Checked, checks
from services.scorer.learning import forecasting
from services.scorer.models import COLD_START, Models
from services.scorer.queries.filters import LeadFilter
from services.scorer.queries.repository import LeadRepository
from services.scorer.queries.responses import Time
from services.scorer.scoring import Scoring
from services.shared.clock import from_us, rfc3339


class UseResponse(msgspec.Struct, frozen=True):
    """From when on a version was in use, and why."""

    version: str
    since: Time
    why: str


class AlarmResponse(msgspec.Struct, frozen=True):
    """An alarm of a day's check: predictions are off, people act otherwise, a source is silent."""

    day: str
    kind: str
    what: str


class ModelResponse(msgspec.Struct, frozen=True):
    """The model in use. `training` and `evidence` are null of one that was written by hand;
    `checked_at` and `check` are null before the first comparison with matured outcomes: `check` has
    measures of `all` predictions (AUC, calibration by bands, precision in the top tenth, by kind of
    moment), of those `since_training`, by `months`, and past `forecasts`. `precision_at_capacity`
    is the share with the outcome among the likeliest `capacity` leads of each week (null: a tenth),
    each counted once. `checked_days` are those on which a check was made, the newest first.
    """

    version: str
    about: str
    outcome: str
    horizon_days: float
    calibrated: bool
    training: dict[str, Any] | None
    evidence: dict[str, Any] | None
    checked_at: Time | None
    check: dict[str, Any] | None
    precision_at_capacity: dict[str, Any] | None
    alarms: list[AlarmResponse]
    checked_days: list[str]
    history: list[UseResponse]


class PastForecast(msgspec.Struct, frozen=True):
    """What the model would have forecast of all leads at a past moment, and what came of it."""

    at: Time
    leads: int
    expected: float
    low: float
    high: float
    happened: int


class ForecastResponse(msgspec.Struct, frozen=True):
    """Outcomes within `horizon_days` of the leads of a list: the expected number, and a 95 %
    interval. `hits` is the share of past forecasts whose interval held what came.
    """

    as_of: Time
    horizon_days: float
    outcome: str
    model: str
    calibrated: bool
    leads: int
    expected: float
    low: float
    high: float
    hits: float | None
    past: list[PastForecast]


class ModelQueries:
    """Reads about the model in use."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring) -> None:
        self._engine, self._scoring = engine, scoring

    async def model(self) -> ModelResponse:
        """The model in use, with its last check and the alarms of all of them."""
        async with self._engine.connect() as connection:
            made, uses = await checks(connection), await Models(connection).uses()
        model = self._scoring.playbook.model
        learned = model.learned
        return ModelResponse(
            version=model.version or COLD_START,
            about=model.about,
            outcome=model.outcome,
            horizon_days=model.horizon_days,
            calibrated=self._scoring.fold.estimate.is_calibrated,
            training=learned.training.model_dump() if learned else None,
            evidence=learned.evidence if learned else None,
            checked_at=rfc3339(made[0].checked_at) if made else None,
            check=made[0].found if made else None,
            precision_at_capacity=_at_capacity(made),
            alarms=_alarms(made),
            checked_days=[checked.day for checked in made],
            history=[UseResponse(use.version, rfc3339(use.since), use.why) for use in uses],
        )

    async def forecast(self, asked: LeadFilter) -> ForecastResponse:
        """Expected outcomes of a list."""
        async with self._engine.connect() as connection:
            totals = await LeadRepository(connection).totals(asked)
            made = await checks(connection, most=1)
        known = made[0].found["forecasts"] if made else []
        past = [PastForecast(*each) for each in forecasting.compared(known)]
        found = forecasting.forecast(*totals, forecasting.relative_error(known))
        model = self._scoring.playbook.model
        held = [each.low <= each.happened <= each.high for each in past]
        return ForecastResponse(
            as_of=rfc3339(from_us(self._scoring.clock.now_us())),
            horizon_days=model.horizon_days,
            outcome=model.outcome,
            model=model.version or COLD_START,
            calibrated=self._scoring.fold.estimate.is_calibrated,
            leads=found.leads,
            expected=found.expected,
            low=found.low,
            high=found.high,
            hits=sum(held) / len(held) if held else None,
            past=past,
        )


def _at_capacity(made: list[Checked]) -> dict[str, Any] | None:
    """That of the last check; None where nothing has matured."""
    every = made[0].found["all"] if made else None
    found: dict[str, Any] | None = every and every.get("precision_at_capacity")
    return found


def _alarms(made: list[Checked]) -> list[AlarmResponse]:
    return [
        AlarmResponse(checked.day, alarm["kind"], alarm["what"])
        for checked in made
        for alarm in checked.found["alarms"]
    ]
