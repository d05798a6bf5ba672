"""Crawlers, assistants' live fetches, and people whom an assistant sent, by the default playbook
(I11).
"""

import msgspec
import pytest
from pydantic import ValidationError

from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import ForeignItem, Item
from services.ingest.sources.visitors import Visitors
from services.shared.contracts.events import (
    Interaction,
    decode_envelope,
    decode_interaction,
)
from services.shared.contracts.identity import Cleaner
from services.shared.playbook.machines import Machines
from services.shared.playbook.sections import Identity, Playbook
from tests.support.mailtools import NOW
from tests.unit.ingest.test_bots import PEOPLE

BROWSER = PEOPLE[1]
# as their operators' documentation has them
FETCHERS = [
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; "
    "+https://openai.com/gptbot",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; "
    "+https://openai.com/bot",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; OAI-SearchBot/1.0; "
    "+https://openai.com/searchbot",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; "
    "+claudebot@anthropic.com)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Claude-User/1.0; "
    "+Claude-User@anthropic.com)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; "
    "+https://perplexity.ai/perplexitybot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Perplexity-User/1.0; "
    "+https://perplexity.ai/perplexity-user)",
    "Mozilla/5.0 (compatible; Google-Extended)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "meta-externalfetcher/1.1",
    "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 "
    "(compatible; Bytespider; spider-feedback@bytedance.com)",
    "Mozilla/5.0 (compatible; Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; MistralAI-User/1.0; "
    "+https://docs.mistral.ai/robots)",
    "DuckAssistBot/1.2; (+http://duckduckgo.com/duckassistbot.html)",
]


@pytest.fixture(scope="module")
def visitors(default_playbook: Playbook) -> Visitors:
    return Visitors(default_playbook.machines)


@pytest.mark.parametrize("agent", FETCHERS)
def test_crawlers_and_live_fetches_of_assistants_are_machines(
    visitors: Visitors, agent: str
) -> None:
    assert visitors.is_machine(agent)


@pytest.mark.parametrize(
    "agent",
    [
        *PEOPLE,
        "",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
        "Gecko) Mobile/15E148 ChatGPT/1.2025.160",
    ],
)
def test_browsers_are_people_in_an_assistants_own_app_too(visitors: Visitors, agent: str) -> None:
    assert not visitors.is_machine(agent, "203.0.113.7")


@pytest.mark.parametrize(
    ("address", "machine"),
    [
        ("20.171.206.9", True),
        ("::ffff:20.171.206.9", True),
        ("216.73.219.255", True),
        ("216.73.220.0", False),
        ("2600:1f28:365:80b0::7", True),
        ("2600:1f28:365:80c0::7", False),
        ("203.0.113.7", False),
        ("testclient", False),
        ("", False),
    ],
)
def test_a_published_network_is_a_machines_whatever_the_agent_says(
    visitors: Visitors, address: str, machine: bool
) -> None:
    assert visitors.is_machine(BROWSER, address) is machine


@pytest.mark.parametrize(
    ("referrer", "url", "source"),
    [
        ("https://chatgpt.com/", "", "chatgpt.com"),
        ("https://www.perplexity.ai/search/abc", "", "perplexity.ai"),
        ("https://gemini.google.com/app", "", "gemini.google.com"),
        ("https://copilot.microsoft.com/", "", "copilot.microsoft.com"),
        ("https://claude.ai/chat/1", "", "claude.ai"),
        ("claude.ai", "", "claude.ai"),
        ("", "https://x.example/?a=1&utm_source=ChatGPT.com&b=2", "chatgpt.com"),
        ("https://www.google.com/", "https://x.example/?utm_source=news", ""),
        ("https://notchatgpt.com/", "", ""),
        ("https://chatgpt.com.evil.example/", "", ""),
        ("https://[", "https://[?utm_source=chatgpt.com", ""),
        ("https://chatgpt.com/" + "x" * 3_000, "", ""),
    ],
)
def test_who_comes_from_an_assistants_page_has_it_as_the_source(
    visitors: Visitors, referrer: str, url: str, source: str
) -> None:
    assert visitors.assistant(referrer, url) == source


def record(visitors: Visitors, item: Item, *, machine: bool = False) -> tuple[Interaction, bytes]:
    """The one interaction that ingest makes of an item, and its record."""
    normaliser = Normaliser(Cleaner(Identity()), b"pepper", visitors=visitors)
    receipt = normaliser.take([item], Receipt("s:default", NOW, 1.0, machine=machine))
    assert not receipt.refused
    envelope = decode_envelope(receipt.records[0].value)
    return decode_interaction(envelope.data), receipt.records[0].value


def test_a_page_event_of_a_crawler_is_marked_and_names_no_source(visitors: Visitors) -> None:
    """I5; its agent and address are not kept."""
    for fields in ({"user_agent": FETCHERS[1]}, {"address": "20.171.206.9"}):
        item = ForeignItem(
            id="1", type="page_viewed", anonymous_id="a", referrer="https://chatgpt.com/", **fields
        )
        found, raw = record(visitors, item)
        assert (found.machine, found.source) == (True, "")
        assert not [value for value in fields.values() if value.encode() in raw]


def test_an_event_of_our_own_format_may_name_agent_and_referrer_in_its_properties(
    visitors: Visitors,
) -> None:
    def page(**properties: object) -> Interaction:
        item = Item(id="1", type="page_viewed", anonymous_id="a", properties=properties)
        return record(visitors, item)[0]

    assert page(user_agent=FETCHERS[1]).machine
    assert page(referrer="https://chatgpt.com/").source == "chatgpt.com"
    odd = page(user_agent=7, referrer=["https://chatgpt.com/"])
    assert (odd.machine, odd.source) == (False, "")


def test_a_source_that_the_sender_names_stays(visitors: Visitors) -> None:
    item = ForeignItem(
        id="1", type="page_viewed", anonymous_id="a", source="fair", referrer="https://claude.ai/"
    )
    assert record(visitors, item)[0].source == "fair"


def test_what_a_crawlers_browser_posts_is_a_machines(visitors: Visitors) -> None:
    item = Item(id="1", type="x", anonymous_id="a", url="https://x.example/?utm_source=claude.ai")
    found, _ = record(visitors, item, machine=True)
    assert (found.machine, found.source) == (True, "")


def test_without_a_list_only_what_calls_itself_a_crawler_is_one() -> None:
    none = Visitors()
    assert none.is_machine(FETCHERS[0])
    assert not none.is_machine("meta-externalfetcher/1.1")
    assert none.assistant("https://chatgpt.com/", "") == ""


@pytest.mark.parametrize(
    "section", [{"networks": ["10.0.0.1/8"]}, {"networks": ["x"]}, {"agents": [" "]}]
)
def test_a_list_that_cannot_be_meant_is_refused(section: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        Machines.model_validate(section)


def test_the_encoded_item_is_the_same_with_and_without_what_is_not_kept(
    visitors: Visitors,
) -> None:
    """O4: so a repetition has the same digest."""
    plain = ForeignItem(id="1", type="page_viewed", anonymous_id="a")
    told = msgspec.structs.replace(plain, user_agent=BROWSER, address="203.0.113.7")
    assert record(visitors, plain)[1] == record(visitors, told)[1]
