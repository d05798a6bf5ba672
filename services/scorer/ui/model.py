"""The page of the model: where it comes from, whether it is true, and what it forecasts."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Response

from services.scorer.queries.filters import LeadFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.model import AlarmResponse, ModelQueries
from services.scorer.ui.frame import Frame
from services.shared.errors import Reject
from services.shared.http.parameters import NO_NUL

TOPS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # of the axes of the reliability plot
MOST_ALARMS = 60
KINDS = {
    "calibration": "predictions are off",
    "mix": "people act otherwise",
    "silent": "a source is silent",
}
MOMENTS = {
    "landmark": "at fixed ages of a lead",
    "after_event": "just after an act",
    "random": "at random moments",
}


class Point(NamedTuple):
    """A band of predictions: its place in the plot (0–100 across and down), its means and size."""

    x: float
    y: float
    predicted: float
    happened: float
    n: int


class Reliability(NamedTuple):
    """The plot of predicted against happened; both axes end at `top`."""

    points: Sequence[Point]
    top: float

    @property
    def ticks(self) -> list[float]:
        """Shares at the axes, from 0 to the top."""
        return [self.top * number / 4 for number in range(5)]


class Alarm(NamedTuple):
    """An alarm, and over which of the days that were checked it held without a break."""

    kind: str
    what: str
    since: str
    until: str


def reliability(bins: Sequence[Mapping[str, Any]]) -> Reliability:
    """The plot of the bins of a calibration."""
    most = max((max(each["p"], each["y"]) for each in bins), default=0.0)
    top = next((top for top in TOPS if top >= most), 1.0)
    return Reliability(
        [
            Point(
                100 * each["p"] / top, 100 * (1 - each["y"] / top), each["p"], each["y"], each["n"]
            )
            for each in bins
        ],
        top,
    )


def spells(alarms: Sequence[AlarmResponse], days: Sequence[str]) -> list[Alarm]:
    """The alarms, newest first; one of a kind (or of a source) on days that were checked one after
    the other is one alarm, in the words of its last day.
    """
    before = dict(pairwise(sorted(days, reverse=True)))
    running: dict[str, int] = {}
    out: list[Alarm] = []
    for each in sorted(alarms, key=lambda alarm: alarm.day, reverse=True):
        name = each.what.partition(" has been silent")[0] if each.kind == "silent" else each.kind
        place = running.get(name)
        if place is not None and before.get(out[place].since) == each.day:
            out[place] = out[place]._replace(since=each.day)
        else:
            running[name] = len(out)
            out.append(Alarm(each.kind, each.what, each.day, each.day))
    return out[:MOST_ALARMS]


class ModelRoutes:
    """The page `/model`, with the forecast of a list that is asked for on it."""

    def __init__(self, models: ModelQueries, leads: LeadQueries, frame: Frame) -> None:
        self._models, self._leads, self._frame = models, leads, frame

    def add_to(self, router: APIRouter, stages: Sequence[str]) -> None:
        """Adds the route; `stages` are those that a list may ask for."""
        self._stages = list(stages)
        router.add_api_route("/model", self.model)

    async def model(
        self,
        product: Annotated[str, Query(max_length=200)] = "",
        stage: Annotated[str, Query(max_length=100)] = "",
        company: Annotated[str, Query(max_length=200, pattern=NO_NUL)] = "",
        least: Annotated[int, Query(ge=0, le=100)] = 0,
    ) -> Response:
        """The model in use; `least` is the least likelihood of the list, in percent."""
        if stage not in ("", *self._stages) or product not in ("", *self._leads.products):
            raise Reject(
                "no such list of leads",
                where="stage, product",
                remedy="choose from the page's own lists",
            )
        asked = LeadFilter(
            product or self._leads.products[0], stage, company=company.strip(),
            min_likelihood=least / 100 if least else None,
        )  # fmt: skip
        model, forecast = await self._models.model(), await self._models.forecast(asked)
        every = (model.check or {}).get("all")
        return self._frame.page(
            "model.html",
            here="model",
            model=model,
            every=every,
            reliability=reliability(every["calibration"]) if every else None,
            alarms=spells(model.alarms, model.checked_days),
            kinds=KINDS,
            moments=MOMENTS,
            forecast=forecast,
            asked=asked,
            least=least,
            products=self._leads.products,
            stages=self._stages,
        )
