"""Owners are told by mail, and a webhook by signed messages, again after failures (H1, H5)."""

import email
import json
from email.policy import default

import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook

from services.scorer.handoffs.telling import SCHEDULE, Teller
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support.handoffs import HandoffBench, demo, playbook_with
from tests.support.smtp_server import BODY, SmtpServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OWNERS = [{"email": "ana@ours.example", "name": "Ana"}]
DUE_NOW = "UPDATE scorer.handoff_notice SET due_at = now() WHERE due_at IS NOT NULL"


class Receiver:
    """Takes webhooks, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def serve(self) -> str:
        app = web.Application()
        app.router.add_post("/in", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/in"

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)

    async def close(self) -> None:
        await self._runner.cleanup()


async def test_a_hand_off_is_told_by_mail_and_webhook(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    smtp, receiver = SmtpServer(), Receiver()
    given = {
        "smtp_url": SecretStr(f"smtp://{await smtp.start()}"),
        "handoff_url": await receiver.serve(),
        "handoff_secret": SecretStr(SECRET),
    }
    playbook = playbook_with(default_playbook, owners=OWNERS)
    bench = HandoffBench(settings, engine, playbook, webhook=True)
    await bench.open()
    teller = Teller(settings.model_copy(update=given), engine, bench.scoring.clock)
    await bench.happened(
        demo(
            "ann@firm.example",
            traits={"first_name": "Ann", "last_name": "Lee\r\nBcc: x@y.example", "phone": "+44 20"},
            properties={"message": "Two plants?"},
        )
    )
    smtp.answers[BODY], receiver.status = "451 later", 500
    assert await teller.tell_due() == 2
    assert (await bench.only())["told_at"] is None
    assert await teller.tell_due() == 0
    del smtp.answers[BODY]
    receiver.status = 204
    await bench.run(DUE_NOW)
    assert await teller.tell_due() == 2
    found = await bench.only()
    assert found["told_at"] == "2026-06-09T09:00:00Z"
    await bench.run(DUE_NOW)
    assert await teller.tell_due() == 0
    mail = email.message_from_bytes(smtp.mails[-1], policy=default)
    assert mail["To"] == "ana@ours.example"
    assert mail["Bcc"] is None
    assert "asks for a person" in mail["Subject"]
    text = mail.get_content()
    for part in (*found["reasons"], "Two plants?", "+44 20", "ann@firm.example", "Why you:"):
        assert part in text
    first, again = receiver.got
    assert first[0]["webhook-id"] == again[0]["webhook-id"]
    Webhook(SECRET).verify(again[1], again[0])
    body = json.loads(again[1])
    assert (body["type"], body["data"]["id"]) == ("handoff.opened", found["id"])
    assert body["data"]["contact"]["phone"] == "+44 20"
    smtp.close()
    await receiver.close()
    await bench.http.aclose()


async def test_what_cannot_be_told_is_given_up_at_last(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    given = {"smtp_url": SecretStr("smtp://127.0.0.1:9"), "sending_timeout_s": 1.0}
    bench = HandoffBench(settings, engine, playbook_with(default_playbook, owners=OWNERS))
    teller = Teller(settings.model_copy(update=given), engine, bench.scoring.clock)
    await bench.happened(demo("ann@firm.example"))
    for _ in range(len(SCHEDULE) + 1):
        assert await teller.tell_due() == 1
        await bench.run(DUE_NOW)
    assert await teller.tell_due() == 0
    (notice,) = await bench.rows("SELECT problem, sent_at FROM scorer.handoff_notice")
    assert notice.sent_at is None
    assert "mail server" in notice.problem


def test_a_webhook_without_a_secret_is_refused(settings: Settings, engine: AsyncEngine) -> None:
    given = {"handoff_url": "http://127.0.0.1:9/", "handoff_secret": SecretStr("")}
    with pytest.raises(Reject, match="secret") as refused:
        Teller(settings.model_copy(update=given), engine, None)  # type: ignore[arg-type]
    assert refused.value.where == "RIPELINE_HANDOFF_SECRET"
