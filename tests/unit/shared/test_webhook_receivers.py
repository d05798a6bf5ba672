"""Where signed webhooks may go in production: to public hosts, and to those of a private network
that are named.
"""

import pytest

from services.shared.errors import Reject
from services.shared.http.webhook import Networks, SignedWebhook
from services.shared.setting_texts import receiver
from services.shared.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def webhook(url: str, *receivers: str, environment: str = "production") -> SignedWebhook:
    settings = Settings(environment=environment, private_receivers=list(receivers))  # type: ignore[arg-type]
    return SignedWebhook(settings, url, SECRET, "RIPELINE_CRM_URL")


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("127.0.0.1", "add 127.0.0.1 to RIPELINE_PRIVATE_RECEIVERS"),
        ("10.1.2.3", "add 10.1.2.3 to"),
        ("169.254.169.254", "name a public host"),
        ("[::1]", "add ::1 to"),
        ("[fd00::5]", "add fd00::5 to"),
        ("[::ffff:169.254.169.254]", "name a public host"),
        ("[64:ff9b::a00:1]", "name a public host"),
        ("localhost", "add localhost to"),
        ("n8n.localhost", "add n8n.localhost to"),
    ],
)
def test_what_is_written_as_our_own_network_is_refused_at_the_start(host: str, remedy: str) -> None:
    """Security: with a sentence that says which setting lets it be called."""
    with pytest.raises(Reject) as refused:
        webhook(f"http://{host}:5678/in")
    assert refused.value.where == "RIPELINE_CRM_URL"
    assert remedy in refused.value.remedy
    assert webhook(f"http://{host}:5678/in", environment="test")


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1:5678", "127.0.0.1"), ("127.0.0.1:5678", "127.0.0.0/8"),
        ("127.0.0.1:5678", "127.0.0.1:5678"), ("10.1.2.3", "example.com,10.0.0.0/8"),
        ("[fd00::5]:5678", "fd00::/8"), ("[fd00::5]:5678", "[fd00::5]:5678"),
        ("[fd00::5]:5678", "[fd00::5]"), ("[::ffff:10.0.0.1]", "10.0.0.1"),
        ("localhost:5678", "localhost"), ("LocalHost:5678", "LOCALHOST:5678"),
        ("localhost", "localhost:80"), ("localhost:5678", "127.0.0.0/8"),
    ],
)  # fmt: skip
def test_who_is_named_may_be_called(host: str, named: str) -> None:
    assert webhook(f"http://{host}/in", *named.split(","))


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("10.1.2.3", "10.1.0.0/24"), ("10.1.2.3:1", "10.1.2.3:2"), ("localhost", "localhost:5678"),
        ("10.1.2.3", "n8n"), ("127.0.0.1", "localhost"), ("[::1]", "127.0.0.0/8"),
    ],
)  # fmt: skip
def test_others_may_not(host: str, named: str) -> None:
    with pytest.raises(Reject):
        webhook(f"http://{host}/in", named)


def test_a_name_counts_by_the_addresses_to_which_it_leads() -> None:
    """Security: a public name that leads inside is refused unless name or network is named."""
    url = "http://n8n.firm.example:5678/in"
    for named, allowed in {
        "": False, "n8n.firm.example": True, "n8n.firm.example.": True,
        "n8n.firm.example:5678": True, "n8n.firm.example:80": False, "172.16.0.0/12": True,
        "172.16.0.0/12,10.0.0.0/8": True, "firm.example": False, "10.0.0.0/8": False,
    }.items():  # fmt: skip
        networks = Networks([receiver(each) for each in named.split(",") if each], url)
        assert networks.may_be_named("n8n.firm.example")
        assert networks.may_be("172.18.0.4", "n8n.firm.example") == allowed, named
        assert networks.may_be("93.184.216.34", "n8n.firm.example")


@pytest.mark.parametrize(
    "written",
    ["http://n8n", "n8n/in", "10.0.0.1/8", "a b", "*.firm.example", "n8n:x", "ann@n8n", ":80", ""],
)
def test_what_names_no_receiver_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"write hosts|[Pp]ort"):
        receiver(written)
