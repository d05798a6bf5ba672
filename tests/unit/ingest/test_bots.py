"""Who follows a link or loads the pixel: people by whatever program, scanners by name, haste or
habit (I5).
"""

import pytest

from services.ingest.tracking.bots import RecentClicks, is_machine_click, is_machine_open

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PEOPLE = [
    FIREFOX,
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.5 Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Mobile Safari/537.36",
]
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
OUTLOOK = "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)"
SCANNERS = [
    "Barracuda Sentinel (EE)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    f"{FIREFOX} Mimecast",
    "Mozilla/5.0 proofpoint url defense",
    "Mozilla/5.0 (compatible; CiscoSecureEmail)",
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_browsers_are_people(agent: str) -> None:
    assert not is_machine_click("GET", {"user-agent": agent})
    assert not is_machine_open("GET", {"user-agent": agent})


@pytest.mark.parametrize("agent", SCANNERS)
def test_scanners_that_name_themselves_are_machines(agent: str) -> None:
    assert is_machine_click("GET", {"user-agent": agent})
    assert is_machine_open("GET", {"user-agent": agent})


@pytest.mark.parametrize(
    "agent",
    ["", "curl/8.14", "python-requests/2.32", "Go-http-client/2.0", "Slackbot-LinkExpanding 1.0"],
)
def test_what_follows_a_link_and_is_no_browser_is_a_machine(agent: str) -> None:
    assert is_machine_click("GET", {"user-agent": agent} if agent else {})


@pytest.mark.parametrize("agent", [GMAIL, YAHOO, OUTLOOK])
def test_image_proxies_and_mail_programs_open_for_people_but_follow_no_links(agent: str) -> None:
    """Gmail and Yahoo load a picture when the mail is read."""
    assert not is_machine_open("GET", {"user-agent": agent})
    assert is_machine_click("GET", {"user-agent": agent})


def test_apples_privacy_protection_opens_for_nobody() -> None:
    """It loads the pictures of every mail, read or not."""
    assert is_machine_open("GET", {"user-agent": "Mozilla/5.0"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
        ("x-purpose", "preview"),
        ("x-moz", "prefetch"),
    ],
)
def test_who_looks_ahead_of_a_person_is_a_machine(name: str, value: str) -> None:
    assert is_machine_click("GET", {"user-agent": FIREFOX, name: value})
    assert is_machine_open("GET", {"user-agent": FIREFOX, name: value})


def test_a_head_request_is_a_machine() -> None:
    assert is_machine_click("HEAD", {"user-agent": FIREFOX})
    assert is_machine_open("HEAD", {"user-agent": FIREFOX})


def test_two_links_of_one_mail_within_seconds_are_seen_together() -> None:
    recent_clicks = RecentClicks()
    assert recent_clicks.others("t1", "link", 100.0) == set()
    assert recent_clicks.others("t1", "link", 101.0) == set()
    assert recent_clicks.others("t2", "unsubscribe", 101.0) == set()
    assert recent_clicks.others("t1", "unsubscribe", 106.0) == {"link"}
    assert recent_clicks.others("t1", "preferences", 106.5) == {"unsubscribe"}
    assert recent_clicks.others("t1", "link", 120.0) == set()


def test_the_memory_of_what_was_followed_is_bounded() -> None:
    recent_clicks = RecentClicks(max_mails=100)
    for n in range(10_000):
        recent_clicks.others(f"t{n}", "link", 1.0)
    assert recent_clicks.others("t9999", "unsubscribe", 1.0) == {"link"}
    assert recent_clicks.others("t0", "unsubscribe", 1.0) == set()
    assert len(recent_clicks._by_touch) == 100
