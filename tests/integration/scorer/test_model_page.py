"""The page of the model: what it shows before and after predictions have matured."""

import json
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.learning import monitor
from services.scorer.model.fold import Fold
from services.scorer.queries.model import AlarmResponse
from services.scorer.ui.model import Alarm, reliability, spells
from services.shared.contracts.events import Interaction
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.integration.scorer.test_page import ODD, Site
from tests.support import simulated

DAYS = 400


@pytest.fixture
async def site(engine: AsyncEngine, settings: Settings, default_playbook: Playbook) -> Site:
    site = Site(settings, engine, default_playbook)
    await site.open()
    await site.sign_in()
    return site


async def checked(engine: AsyncEngine, day: str, found: dict[str, Any]) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO scorer.model_check (day, version, body) "
                "VALUES (cast(:day AS text)::date, '', :body)"
            ),
            {"day": day, "body": json.dumps(found)},
        )


async def test_before_anything_has_matured_it_says_so(site: Site) -> None:
    """Its version, that it learned from nothing, and a forecast of nobody (S7, S9)."""
    page = (await site.http.get("/model")).text
    assert "cold-start" in page
    assert "No prediction has matured yet" in page
    assert "the first check comes within a day" in page
    assert "<strong>0.0</strong> of 0 leads" in page
    assert "nothing has been checked yet" in page


async def test_what_came_of_predictions_is_shown(
    site: Site, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """Figures, bands with a plot, months, alarms as spells of days, past forecasts (S7, S9)."""
    rng = np.random.default_rng(2)
    episodes = simulated.archive(
        simulated.unlike(default_playbook.model, rng), 300, rng, until_days=DAYS
    )
    found = monitor.check(Fold(default_playbook), episodes, simulated.until(DAYS), {}).figures
    silent = {"kind": "silent", "what": f"{ODD} has been silent for 6 days"}
    for day in ("2026-03-01", "2026-03-02", "2026-03-03"):
        await checked(engine, day, found | {"alarms": [silent] if day != "2026-03-01" else []})
    page = (await site.http.get("/model")).text
    assert f"AUC</dt><dd>{found['all']['auc']:.3f}" in page
    assert page.count("<circle") == len(found["all"]["calibration"]) == 10
    assert f"{found['all']['precision_at_capacity']['precision']:.1%}".replace("%", " %") in page
    assert all(month["month"] in page for month in found["months"])
    assert "2026-03-02 to 2026-03-03" in page
    assert ODD not in page
    assert "How past forecasts did" in page
    said = (
        await site.http.get("/v1/model", headers={"Authorization": f"Bearer {site.key}"})
    ).json()
    assert said["precision_at_capacity"] == found["all"]["precision_at_capacity"]
    assert said["checked_days"] == ["2026-03-03", "2026-03-02", "2026-03-01"]


async def test_a_list_is_forecast_by_its_filter(site: Site) -> None:
    """The list's page leads to it; what is no list is refused on a page (S9)."""
    await site.happened(
        Interaction(id="d1", type="demo_requested", email="a@firm.example", company="Firm"),
        Interaction(id="d2", type="page_viewed", email="b@other.example", company="Other"),
    )
    assert (
        "/model?product=default&amp;stage=decision#forecast"
        in (await site.http.get("/", params={"stage": "decision"})).text
    )
    for asked, leads in (({}, 2), ({"stage": "decision"}, 1), ({"company": "other"}, 1),
                         ({"least": 99}, 0)):  # fmt: skip
        page = (await site.http.get("/model", params=asked)).text
        assert f"</strong> of {leads} lead{'' if leads == 1 else 's'} are expected" in page, asked
    for wrong in ({"stage": "nowhere"}, {"product": "none"}):
        refused = await site.http.get("/model", params=wrong)
        assert refused.status_code == 400
        assert "o such list of leads" in refused.text


def test_alarms_of_days_in_a_row_are_one() -> None:
    """A day that was checked without the alarm ends it; sources are apart."""
    days = ["2026-01-05", "2026-01-04", "2026-01-03", "2026-01-01"]
    alarms = [AlarmResponse(day, "calibration", f"off on {day}") for day in days if "04" not in day]
    alarms += [AlarmResponse(day, "silent", "web has been silent for 9 days") for day in days[:2]]
    alarms += [AlarmResponse(days[0], "silent", "fair has been silent for 4 days")]
    assert spells(alarms, days) == [
        Alarm("calibration", "off on 2026-01-05", "2026-01-05", "2026-01-05"),
        Alarm("silent", "web has been silent for 9 days", "2026-01-04", "2026-01-05"),
        Alarm("silent", "fair has been silent for 4 days", "2026-01-05", "2026-01-05"),
        Alarm("calibration", "off on 2026-01-03", "2026-01-01", "2026-01-03"),
    ]


def test_the_plot_ends_where_the_bands_do() -> None:
    plot = reliability([{"p": 0.01, "y": 0.0, "n": 5}, {"p": 0.08, "y": 0.1, "n": 5}])
    assert plot.top == 0.1
    assert [point.x for point in plot.points] == pytest.approx([10, 80])
    assert [point.y for point in plot.points] == pytest.approx([100, 0])
    assert reliability([{"p": 0.0, "y": 0.0, "n": 1}]).top == 0.02
