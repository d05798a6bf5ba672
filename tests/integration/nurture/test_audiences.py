"""Audiences: who has consented to their purpose goes out, and nobody else; suppression lists are
complete; each is published (N6, N7).
"""

import csv
import hashlib
import io
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.commands import audiences, overrides
from services.shared.contracts.events import ConsentChanged, ConsentEvent, ConsentState, keyed_hash
from services.shared.errors import Reject
from services.shared.playbook.audiences import Audience
from tests.integration.nurture.test_nurture import NOON, Bench, bench, change, refusal, with_parts

__all__ = ["bench"]
DAY = timedelta(days=1)
GIVEN, TAKEN = ConsentState("given", NOON - DAY, "form"), ConsentState("withdrawn", NOON, "said")
NEWS = Audience(id="news", name="News", purpose="newsletter")
ADS = Audience(id="ads", name="Ads", purpose="retargeting", hashed=True)
STOP = Audience(id="stop", name="Stop", purpose="suppression")


def person(n: int, email: str, **more: Any) -> Any:
    return change(lead=str(uuid.UUID(int=n)), email=email, **more)


async def crowd(bench: Bench) -> None:
    """Five people, who have said different things."""
    mails = {"email:marketing": GIVEN}
    await bench.take(
        person(1, "ann@a.example", consents=mails, traits={"first_name": "=1+1"}),
        person(2, "Bo@b.example", consents=mails | {"ads:retargeting": GIVEN}),
        person(3, "cy@c.example", consents={}),
        person(4, "di@d.example", consents={"email:marketing": TAKEN, "ads:retargeting": GIVEN}),
        person(5, "ed@e.example", consents=mails, excluded="competitor"),
        person(6, "fay@f.example", stage="awareness", consents=mails),
    )
    await bench.take(refusal(bench, NOON, email="fay@f.example"))
    async with bench.engine.begin() as connection:  # gil has refused, and nurture knows no lead
        await connection.execute(
            text(
                "INSERT INTO scorer.identifier (kind, value, lead_id) "
                "VALUES (1, 'gil@g.example', :lead), (1, 'gil@home.example', :lead)"
            ),
            {"lead": uuid.UUID(int=9)},
        )
    await bench.take(refusal(bench, NOON, email="gil@g.example"))


async def found(bench: Bench, audience: Audience) -> list[str]:
    done = await audiences.export(bench.engine, bench.settings, bench.rules, audience, NOON)
    return [next(iter(member.row.values())) for member in done.members]


async def test_who_has_agreed_to_the_purpose_is_in_it_and_nobody_else(bench: Bench) -> None:
    """N6."""
    await crowd(bench)
    assert await found(bench, NEWS) == ["ann@a.example", "bo@b.example"]
    hashes = [hashlib.sha256(each).hexdigest() for each in (b"bo@b.example", b"di@d.example")]
    assert await found(bench, ADS) == sorted(hashes)
    everybody = ["di@d.example", "fay@f.example", "gil@g.example", "gil@home.example"]
    assert await found(bench, STOP) == everybody
    at = NOON + timedelta(hours=1)
    await bench.take(refusal(bench, at, "given", "gil@home.example"))
    assert await found(bench, STOP) == everybody[:3]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"stages": ["awareness"]}, []),
        ({"stages": ["decision"], "sales": []}, ["ann@a.example", "bo@b.example"]),
        ({"programs": ["no-such"]}, []),
        ({"personas": ["nobody"]}, []),
        ({"countries": ["DE"]}, []),
        ({"sales": ["won"]}, []),
        ({"consent": "email:newsletter"}, []),
    ],
)
async def test_filters_hold(bench: Bench, filters: dict[str, Any], names: list[str]) -> None:
    await crowd(bench)
    assert await found(bench, NEWS.model_copy(update=filters)) == names


async def test_the_hold_out_is_left_alone(bench: Bench) -> None:
    await crowd(bench)
    share = bench.playbook.holdout.model_copy(update={"share": 0.9, "salt": "x"})
    bench.use(with_parts(bench.playbook, holdout=share))
    assert len(await found(bench, NEWS)) < 2


async def test_a_table_holds_no_formula_and_everybody_is_published(bench: Bench) -> None:
    """N7."""
    await crowd(bench)
    done = await audiences.export(bench.engine, bench.settings, bench.rules, NEWS, NOON)
    rows = list(csv.DictReader(io.StringIO(done.table())))
    assert [row["first_name"] for row in rows] == ["'=1+1", ""]
    before = len(await bench.events())
    for _ in range(2):
        await audiences.publish(bench.engine, done, done.members, "csv")
    told = (await bench.events())[before:]
    assert {event.type for event in told} == {"touch.exported.v1"}
    assert len({event.id for event in told}) == 2
    assert {event.data.lead for event in told} == {str(uuid.UUID(int=n)) for n in (1, 2)}
    assert "@" not in str([event.data for event in told])


async def test_the_webhook_gets_it_signed_and_not_while_sending_is_stopped(bench: Bench) -> None:
    await crowd(bench)
    done = await audiences.export(bench.engine, bench.settings, bench.rules, NEWS, NOON)
    assert await audiences.post(bench.engine, bench.settings, done) == 1
    headers, body = bench.hook.got[0]
    posted = json.loads(body)
    assert posted["type"] == "audience.exported"
    assert posted["data"]["purpose"] == "newsletter"
    assert [row["email"] for row in posted["data"]["members"]] == ["ann@a.example", "bo@b.example"]
    assert {"webhook-id", "webhook-signature"} <= {name.lower() for name in headers}
    bench.hook.status = 500
    with pytest.raises(Reject, match="answered 500"):
        await audiences.post(bench.engine, bench.settings, done)
    await overrides.stop_sending(bench.engine)
    with pytest.raises(Reject, match="sending is stopped"):
        await audiences.post(bench.engine, bench.settings, done)


def test_the_commands_list_and_refuse() -> None:
    run = CliRunner().invoke(command_line, ["audience", "list", "--json"])
    assert run.exit_code == 0
    assert isinstance(json.loads(run.stdout), list)


async def test_a_refusal_by_an_id_alone_suppresses_every_address(bench: Bench) -> None:
    await bench.take(person(1, "ann@a.example"))
    async with bench.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO scorer.identifier (kind, value, lead_id) "
                "VALUES (0, 'u1', :lead), (1, 'ann@a.example', :lead)"
            ),
            {"lead": uuid.UUID(int=1)},
        )
    word = ConsentChanged(
        address="", identifier=keyed_hash(bench.pepper, "user:u1"), channel="email",
        purpose="marketing", state="withdrawn", at=NOON,
    )  # fmt: skip
    await bench.take(ConsentEvent(id=uuid.uuid4().hex, time=NOON, data=word))
    assert await found(bench, STOP) == ["ann@a.example"]
