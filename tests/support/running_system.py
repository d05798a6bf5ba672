"""A running system as its clients see it: by HTTP only, and by the mails that it sends."""

import json
import os
import time
import uuid
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import httpx

from services.nurture.rules.grounds import Rules
from services.nurture.rules.holdout import is_held_out
from services.nurture.rules.lead import Lead
from services.shared.contracts.events import Snapshot
from services.shared.playbook.sections import Playbook
from tests.support.company import CrmFlow, Site

T = TypeVar("T")
PEPPER = "the pepper of the system under test"
ON_SITE_S = 1.2  # in this system people leave the site so soon after their last act


class System:
    """A running system, reached as its clients reach it; `up` is the first line that `ripeline up`
    prints: the services' addresses, keys, process ids, database, broker and folder of mails.
    """

    def __init__(self, up: dict[str, Any], site: Site, crm: CrmFlow, playbook: Playbook) -> None:
        self.site, self.crm, self.playbook = site, crm, playbook
        self.ingest, self.scorer, self.nurture = up["ingest"], up["scorer"], up["nurture"]
        self.database: str = up["database"]
        self.kafka: str = up["kafka"]
        self.keys: dict[str, str] = up["keys"]
        self.mail = Path(up["mail"])
        self.http = httpx.Client(timeout=20, follow_redirects=False)
        self._rules = Rules.of(playbook, sink=True)

    @property
    def pids(self) -> dict[str, Any]:
        """The processes of each service at this moment; what ends is started again."""
        state = self.mail.parent.parent / f"ripeline-{os.getuid()}" / "up.json"
        pids: dict[str, Any] = json.loads(state.read_text())["pids"]
        return pids

    # -- requests ---------------------------------------------------------------------------------

    def key(self, scope: str) -> dict[str, str]:
        """The header that signs in."""
        return {"Authorization": f"Bearer {self.keys[scope]}"}

    def post(
        self, path: str, scope: str = "secret", headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        """Posts to ingest."""
        return self.http.post(self.ingest + path, headers=self.key(scope) | (headers or {}), **body)

    def post_event(self, **interaction: Any) -> str:
        """Posts one interaction and returns its id."""
        body = {"id": uuid.uuid4().hex, **interaction}
        answer = self.post("/v1/events", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"accepted": 1, "ids": [body["id"]], "rejected": []}
        return str(body["id"])

    def query(self, path: str, **params: Any) -> Any:
        """The body of the scorer's answer to a query, which succeeds."""
        answer = self.http.get(self.scorer + path, params=params, headers=self.key("query"))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def lookup(self, **identifier: Any) -> dict[str, Any] | None:
        """The lead of an identifier, if there is one."""
        answer = self.http.post(
            f"{self.scorer}/v1/leads/lookup", json=identifier, headers=self.key("query")
        )
        assert answer.status_code in (200, 404), answer.text
        return answer.json() if answer.status_code == 200 else None

    def wait_for_lead(self, events: int = 1, **identifier: Any) -> dict[str, Any]:
        """The lead of an identifier, once it counts so many events."""
        return wait_until(
            lambda: (
                (lead := self.lookup(**identifier)) and lead["events_counted"] >= events and lead
            )
        )

    def timeline(self, lead: str) -> list[dict[str, Any]]:
        """The items of a lead's timeline."""
        return list(self.query(f"/v1/leads/{lead}/timeline", limit=1000)["items"])

    def touches(self, lead: str, **params: Any) -> list[dict[str, Any]]:
        """Nurture's decisions for a lead, but for those of service programs."""
        query: dict[str, Any] = {"lead": lead, "limit": 1000} | params
        answer = self.http.get(
            f"{self.nurture}/v1/touches", params=query, headers=self.key("query")
        )
        assert answer.status_code == 200, answer.text
        return [
            touch
            for touch in answer.json()["touches"]
            if touch["program"] not in self._rules.library.request_programs
        ]

    def mails(self, address: str, touch: str = "") -> list[EmailMessage]:
        """The mails to an address, or those of them that a touch sent."""
        found = (
            message_from_bytes(file.read_bytes(), policy=policy.default)
            for file in sorted(self.mail.glob("*.eml"))
        )
        return [
            mail for mail in found if mail["To"] == address and touch in mail["X-Ripeline-Touch"]
        ]

    def address(self, name: str = "ann") -> str:
        """A new address at a company that is not held out."""
        while True:
            email = f"{name}@{uuid.uuid4().hex[:12]}.example"
            lead = Lead("", Snapshot(stage="awareness", email=email))
            if not is_held_out(lead, self._rules.playbook.holdout, self._rules.cleaner):
                return email


def body_of(mail: EmailMessage, subtype: str = "plain") -> str:
    """The text of a mail, or its HTML."""
    part = mail.get_body((subtype,))
    assert part
    return str(part.get_content())


def wait_until(condition: Callable[[], T | bool | None], seconds: float = 20) -> T:
    """What `condition` returns once it is true."""
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, f"waited for {seconds:g} s"
        time.sleep(0.1)
    return found  # type: ignore[return-value]
