"""What a mail holds: the links of its own, what machines alone see, and nothing of the reader in
any address (N6).
"""

import re
from html.parser import HTMLParser

import pytest

from services.nurture.channels.message import Message, render
from services.shared.contracts.events import Snapshot, Touch, keyed_hash
from services.shared.contracts.link_tokens import (
    LinkClaim,
    PixelClaim,
    PreferencesClaim,
    UnsubscribeClaim,
    open_token,
)
from services.shared.playbook.sections import Playbook

PEPPER = b"pepper"
TOUCH = Touch(
    id="11111111-1111-4111-8111-111111111111",
    lead="l",
    status="sending",
    content="ebook-planned-work-primer",
)
ADA = Snapshot(stage="awareness", email="ada@acme.example", traits={"first_name": "Ada <b>"})


class Seen(HTMLParser):
    """The links and pictures of a mail, and the words that a person reads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[dict[str, str | None]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {"a": self.links, "img": self.pictures}.get(tag)
        if found is not None:
            found.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.words += data


def made(playbook: Playbook, *, pixel: bool = False, reader: Snapshot = ADA) -> Message:
    rules = playbook.model_copy(update={"open_pixel": pixel})
    return render(
        rules, TOUCH, reader, public_url="https://mail.millwarden.example/", pepper=PEPPER
    )


def claim_of(address: str | None) -> object:
    found = re.fullmatch(
        r"https://mail\.millwarden\.example/([lupo])/([\w-]+)(\.gif)?", address or ""
    )
    assert found
    return open_token(PEPPER, found[2])


def test_text_and_html_hold_the_link_the_preferences_and_the_way_out(
    default_playbook: Playbook,
) -> None:
    message = made(default_playbook)
    address = keyed_hash(PEPPER, "email:ada@acme.example")
    expected = {
        message.link: LinkClaim(TOUCH.id, TOUCH.content),
        message.preferences: PreferencesClaim(TOUCH.id, address),
        message.unsubscribe: UnsubscribeClaim(TOUCH.id, address),
    }
    for link, claim in expected.items():
        assert claim_of(link) == claim
        assert message.text.count(link) == 1
        assert message.html.count(f'"{link}"') == 1
        assert "ada" not in link


def test_a_link_that_no_person_sees_stands_in_the_html_alone(default_playbook: Playbook) -> None:
    """I5: without words, not shown, not read aloud, not reached by keyboard."""
    message = made(default_playbook)
    links = Seen(message.html).links
    (trap,) = [
        link
        for link in links
        if claim_of(link["href"]) == LinkClaim(TOUCH.id, TOUCH.content, trap=True)
    ]
    assert (trap["style"], trap["aria-hidden"], trap["tabindex"]) == ("display:none", "true", "-1")
    assert f"{trap['href']}" not in message.text
    assert re.search(re.escape(str(trap["href"])) + r'"[^>]*></a>', message.html)
    assert all("aria-hidden" not in link for link in links if link is not trap)


@pytest.mark.parametrize("on", [True, False])
def test_the_pixel_is_there_only_where_the_playbook_has_it_on(
    default_playbook: Playbook, on: bool
) -> None:
    pictures = Seen(made(default_playbook, pixel=on).html).pictures
    assert [claim_of(picture["src"]) for picture in pictures] == (
        [PixelClaim(TOUCH.id)] if on else []
    )
    assert all(picture["alt"] == "" for picture in pictures)


def test_what_a_lead_calls_itself_is_no_markup(default_playbook: Playbook) -> None:
    message = made(default_playbook)
    assert "Ada <b>" in message.text
    assert "<b>" not in message.html
    assert "Ada <b>" in Seen(message.html).words


@pytest.mark.parametrize(
    "name", ["https://evil.example/win", "www.evil.example", "buy@evil.example", "Win:", "", "  "]
)
def test_what_is_no_name_is_not_greeted_by_it(default_playbook: Playbook, name: str) -> None:
    """A robot that puts an advert into a form with a stranger's address has it sent to nobody."""
    message = made(
        default_playbook,
        reader=Snapshot(stage="awareness", email=ADA.email, traits={"first_name": name}),
    )
    assert "evil" not in message.text + message.subject
    assert "Hello there," in message.text
