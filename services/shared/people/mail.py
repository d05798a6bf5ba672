"""The mail that holds a link to sign in; sent at once, by the configured server, whatever the kill
switch says: it answers who asks for it.
"""

import uuid
from urllib.parse import quote

from services.shared.clock import Clock
from services.shared.people.sign_in import LINK_MINUTES
from services.shared.settings import Settings
from services.shared.staff_mail import StaffMail

TEXT = """Hello {name},

this link signs you in to Ripeline:

{link}

It works once, within {minutes} minutes. If you did not ask for it, do nothing: nobody is signed in
by this mail alone.
"""


def address_of(settings: Settings, token: str, to: str = "") -> str:
    """The address of a link that signs in, and then goes on at a page of ours."""
    onward = f"&to={quote(to, safe='/')}" if to not in ("", "/") else ""
    return f"{settings.page_url}/sign-in/link?token={token}{onward}"


class SignInMail:
    """Sends links."""

    def __init__(self, settings: Settings) -> None:
        self._mail = StaffMail(settings)

    async def send(self, name: str, mail: str, link: str) -> None:
        """Returns once the server has taken it. Raises Reject where no mail can be made of it,
        Retry where the server has not taken it.
        """
        text = TEXT.format(name=name, link=link, minutes=LINK_MINUTES)
        await self._mail.send(uuid.uuid4().hex, mail, "Your link to sign in", text, Clock().now())
