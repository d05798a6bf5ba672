"""Identities that a stranger renews with a key out of a page: the person behind the address notices
nothing.
"""

import time
import uuid

from tests.support import present
from tests.support.running_system import ON_SITE_S, System, wait_until


def claim(system: System, email: str, user: str) -> None:
    """A stranger says that the address is of another user, who is about to buy."""
    body = {
        "id": uuid.uuid4().hex, "type": "demo_requested", "user_id": user, "email": email,
        "traits": {"timezone": present.midday_zone()},
    }  # fmt: skip
    answer = system.post("/v1/events", "public", json=body)
    assert answer.status_code == 200, answer.text


def test_an_address_linked_to_more_and_more_users_gets_one_mail(system: System) -> None:
    """N5, N11: whatever lead it belongs to by now, its caps are its own."""
    email = system.address()
    system.post_event(
        type="demo_requested", email=email, consent=[{"state": "given", "basis": "form"}],
        traits={"timezone": present.midday_zone(), "name": "Ann Ames"},
    )  # fmt: skip
    wait_until(lambda: system.mails(email))
    for number in range(5):
        claim(system, email, f"stranger-{number}-{email}")
        time.sleep(ON_SITE_S)
    time.sleep(ON_SITE_S + 2)
    assert len(system.mails(email)) == 1
