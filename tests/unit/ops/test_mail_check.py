"""`ripeline mail check`: what is wrong in DNS, settings and playbook, asked of a name server over
UDP, and of a zone file (N15).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from services.ops.__main__ import app
from services.ops.commands.mail_check import Finding, mail_check
from services.ops.commands.names import NameServer, names_of
from services.shared.dkim_signing import Signer
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support.dns_server import DnsServer, txt

DOMAIN, KEY = "mail.millwarden.example", "2030a._domainkey.mail.millwarden.example"
GOOD: dict[tuple[str, str], list[str]] = {
    (DOMAIN, "TXT"): [txt("v=spf1 include:spf.relay.example -all"), txt("site-verification=1")],
    (DOMAIN, "MX"): ["10 mx.millwarden.example."],
    ("spf.relay.example", "TXT"): [txt("v=spf1 ip4:198.51.100.0/24 ~all")],
    ("smtp.relay.example", "A"): ["198.51.100.7"],
    ("_dmarc.millwarden.example", "TXT"): [txt("v=DMARC1; p=quarantine; adkim=r")],
    ("go.millwarden.example", "A"): ["198.51.100.8"],
    ("www.millwarden.example", "A"): ["198.51.100.9"],
    ("help.millwarden.example", "AAAA"): ["2001:db8::9"],
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dkim") / "key.pem"
    made = generate_private_key(65537, 2048)
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture
def given(key: Path) -> dict[str, Any]:
    return {
        "mail_from": f"Millwarden <post@{DOMAIN}>", "smtp_url": "smtp://smtp.relay.example:587",
        "public_url": "https://go.millwarden.example", "dkim_domain": DOMAIN,
        "dkim_selector": "2030a", "dkim_key_file": key,
        "imap_url": "imaps://u:p@mx.millwarden.example/INBOX",
    }  # fmt: skip


@pytest.fixture
async def names(given: dict[str, Any]) -> AsyncIterator[DnsServer]:
    signer = Signer.of(Settings(**given))
    assert signer
    server = DnsServer(GOOD | {(KEY, "TXT"): [txt(signer.record())]})
    yield server
    server.close()
    await asyncio.sleep(0)


async def examined(names: DnsServer, given: dict[str, Any], playbook: Playbook) -> list[Finding]:
    host, _, port = (await names.start()).partition(":")
    server = NameServer.at(host, int(port))
    return await asyncio.to_thread(mail_check, Settings(**given), playbook, server)


async def test_a_sound_set_up_has_nothing_but_ok(
    names: DnsServer, given: dict[str, Any], default_playbook: Playbook
) -> None:
    found = await examined(names, given, default_playbook)
    assert [each for each in found if each.level != "ok"] == []
    assert {each.check for each in found} == {
        "sender", "spf", "dkim", "dmarc", "return_path", "postal_address", "unsubscribe", "links",
    }  # fmt: skip


def without(*keys: tuple[str, str]) -> Callable[[DnsServer, dict[str, Any]], None]:
    def change(names: DnsServer, _: dict[str, Any]) -> None:
        for key in keys:
            del names.zone[key]

    return change


def record(name: str, *texts: str) -> Callable[[DnsServer, dict[str, Any]], None]:
    return lambda names, _: names.zone.update({(name, "TXT"): [txt(text) for text in texts]})


def setting(**values: Any) -> Callable[[DnsServer, dict[str, Any]], None]:
    return lambda _, given: given.update(values)


CASES: dict[str, tuple[Callable[[DnsServer, dict[str, Any]], None], str, str, str]] = {
    "no SPF": (without((DOMAIN, "TXT")), "spf", "error", "no SPF record"),
    "two": (record(DOMAIN, "v=spf1 -all", "v=spf1 ~all"), "spf", "error", "2 SPF records"),
    "for all": (record(DOMAIN, "v=spf1 +all"), "spf", "error", "permits everybody"),
    "for none": (record(DOMAIN, "v=spf1 ip4:198.51.100.7 ?all"), "spf", "warning", "forbids"),
    "another server": (record(DOMAIN, "v=spf1 ip4:203.0.113.1 -all"), "spf", "warning", "smtp"),
    "a loop": (record("spf.relay.example", f"v=spf1 include:{DOMAIN}"), "spf", "error", "10 look"),
    "no include": (without(("spf.relay.example", "TXT")), "spf", "error", "spf.relay"),
    "no key": (without((KEY, "TXT")), "dkim", "error", "no DKIM keys"),
    "another key": (record(KEY, "v=DKIM1; k=rsa; p=AAAA"), "dkim", "error", "another DKIM key"),
    "a revoked key": (record(KEY, "v=DKIM1; p="), "dkim", "error", "revoked"),
    "no signing": (
        setting(dkim_domain="", dkim_selector="", dkim_key_file=None), "dkim", "warning", "signs no"
    ),
    "no DMARC": (without(("_dmarc.millwarden.example", "TXT")), "dmarc", "error", "no DMARC"),
    "DMARC of nothing": (
        record(f"_dmarc.{DOMAIN}", "v=DMARC1; rua=mailto:x@y.example"), "dmarc", "error", "policy"
    ),
    "not aligned": (
        setting(mail_from="post@other.millwarden.example"), "dmarc", "ok", "p=quarantine"
    ),
    "strictly not aligned": (
        lambda names, given: (
            record("_dmarc.millwarden.example", "v=DMARC1; p=none; adkim=s")(names, given),
            given.update(mail_from="post@millwarden.example"),
        )[0],
        "dmarc", "error", "do not align",
    ),
    "another organisation": (
        setting(dkim_domain="relay.example"), "dmarc", "error", "do not align"
    ),
    "no return path": (without((DOMAIN, "MX")), "return_path", "error", "no mail server"),
    "unread bounces": (setting(imap_url=""), "return_path", "warning", "bounces"),
    "http": (setting(public_url="http://go.millwarden.example"), "unsubscribe", "error", "https"),
    "unreachable": (without(("go.millwarden.example", "A")), "unsubscribe", "error", "no public"),
    "at home": (
        lambda names, _: names.zone.update({("go.millwarden.example", "A"): ["10.1.2.3"]}),
        "unsubscribe", "error", "no public",
    ),
    "a dead link": (without(("www.millwarden.example", "A")), "links", "error", "www.millwarden"),
    "no domain": (setting(mail_from="nurture@localhost"), "sender", "error", "no domain"),
    "a failing server": (lambda names, _: names.failing.add(DOMAIN), "spf", "error", "no answer"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_is_told_with_place_and_remedy(
    names: DnsServer, given: dict[str, Any], default_playbook: Playbook, case: str
) -> None:
    change, check, level, what = CASES[case]
    change(names, given)
    found = await examined(names, given, default_playbook)
    (told,) = [
        each for each in found if (each.check, each.level) == (check, level) and what in each.what
    ]
    assert told.where
    assert bool(told.remedy) is (level != "ok")


@pytest.mark.parametrize("address", ["", " "])
async def test_a_mail_needs_a_postal_address(
    names: DnsServer, given: dict[str, Any], default_playbook: Playbook, address: str
) -> None:
    company = default_playbook.company.model_copy(update={"postal_address": address})
    playbook = default_playbook.model_copy(update={"company": company})
    found = await examined(names, given, playbook)
    assert [each.check for each in found if each.level == "error"] == ["postal_address"]


def test_the_command_reads_a_zone_file_and_ends_by_its_findings(
    names: DnsServer, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        f"{name}. 60 IN {type_} {text}"
        for (name, type_), texts in names.zone.items()
        for text in texts
    ]
    zone = tmp_path / "zone"
    zone.write_text("\n".join(lines) + "\n")
    for name, value in given.items():
        monkeypatch.setenv(f"RIPELINE_{name.upper()}", str(value))
    monkeypatch.setenv("RIPELINE_RESOLVER", str(zone))
    done = CliRunner().invoke(app, ["mail", "check", "--json"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["ok"], answer["errors"]) == (0, True, 0)
    assert set(answer["findings"][0]) == {"check", "level", "what", "where", "remedy"}
    zone.write_text("\n".join(line for line in lines if "spf1" not in line) + "\n")
    done = CliRunner().invoke(app, ["mail", "check"])
    assert done.exit_code == 1
    assert "✗ spf: no SPF record" in done.stdout


def test_a_resolver_that_is_neither_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="RIPELINE_RESOLVER"):
        names_of(str(tmp_path / "none"))
