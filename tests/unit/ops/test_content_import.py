"""`ripeline content import`: sitemaps and tables become drafts with a reason for each field."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.commands import sitemap
from services.ops.commands.content_import import propose
from services.shared.errors import Reject, Retry
from services.shared.playbook.loading import load
from services.shared.playbook.proposals import LeftOut, Page, Proposal, Proposer
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT, Settings

PLAYBOOK = load(ROOT / "deploy" / "playbook")
SITE = "https://www.acme.example"
NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def sitemap_of(*paths: str) -> bytes:
    """A sitemap of a site."""
    urls = "".join(f"<url><loc>{SITE}{path}</loc></url>" for path in paths)
    return f'<?xml version="1.0"?><urlset {NAMESPACE}>{urls}</urlset>'.encode()


def proposed(path: str, **known: str) -> Proposal:
    """What is proposed for a page."""
    found = Proposer(PLAYBOOK).propose(Page(SITE + path, **known))
    assert isinstance(found, Proposal), found
    return found


@pytest.mark.parametrize(
    ("path", "stage", "rule"),
    [
        ("/pricing", "decision", "decision-words"),
        ("/de/preise", "decision", "decision-words"),
        ("/fr/tarifs", "decision", "decision-words"),
        ("/case-studies/bottling-plant", "decision", "decision-words"),
        ("/es/guia-de-planificacion", "consideration", "consideration-words"),
        ("/de/leitfaden-instandhaltung", "consideration", "consideration-words"),
        ("/webinar/first-steps", "consideration", "consideration-words"),
        ("/blog/why-pumps-fail", "awareness", "awareness-words"),
        ("/blog/a-day-in-the-hall", "status_quo", "journal-words"),
        ("/help/import-a-list", "customer", "customer-words"),
        ("/xyz", "status_quo", "no-rule"),
    ],
)
def test_a_stage_is_proposed_by_a_named_rule(path: str, stage: str, rule: str) -> None:
    found = proposed(path)
    assert (found.stage, found.reasons["stage"].rule) == (stage, rule)
    assert all(reason.why for reason in found.reasons.values())


def test_persona_topic_language_and_title_have_their_reasons() -> None:
    found = proposed("/de/blog/kosten-der-instandhaltung")
    assert (found.language, found.persona) == ("de", "buyer")
    assert found.reasons["persona"] == (
        "money-words",
        "kosten",
        "'kosten' is what such a reader looks for",
    )
    assert found.title == "Kosten der instandhaltung"
    assert proposed("/tips/lubrication", topic="care").reasons["topic"].rule == "given"
    assert proposed("/a/downtime-of-presses").topic == "downtime"
    assert proposed("/checklist/rounds").persona == "practitioner"


@pytest.mark.parametrize(
    ("path", "rule"),
    [("/", "home"), ("/impressum", "legal"), ("/jobs/fitter", "company"), ("/tag/pumps", "list")],
)
def test_what_is_no_content_is_left_out(path: str, rule: str) -> None:
    found = Proposer(PLAYBOOK).propose(Page(SITE + path))
    assert isinstance(found, LeftOut)
    assert (found.rule, bool(found.why)) == (rule, True)


def test_what_the_playbook_has_is_left_out() -> None:
    found = Proposer(PLAYBOOK).propose(Page(PLAYBOOK.content[0].url + "/?utm_source=x"))
    assert isinstance(found, LeftOut)
    assert found.rule == "known"


def test_ids_are_free_and_differ() -> None:
    proposer = Proposer(PLAYBOOK)
    names = [proposer.propose(Page(f"{SITE}/{n}/users-group")).id for n in range(3)]  # type: ignore[union-attr]
    assert names == ["users-group-2", "users-group-3", "users-group-4"]


def test_an_index_a_packed_sitemap_and_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "a.xml.gz").write_bytes(gzip.compress(sitemap_of("/blog/one")))
    (tmp_path / "b.xml").write_bytes(sitemap_of("/blog/two", "/blog/three"))
    names = "".join(f"<sitemap><loc>{each}</loc></sitemap>" for each in (
        f"{SITE}/a.xml.gz", f"{SITE}/b.xml"))  # fmt: skip
    index = tmp_path / "index.xml"
    index.write_text(f"<sitemapindex {NAMESPACE}>{names}</sitemapindex>")
    document = sitemap.parse(index.read_bytes(), 10)
    assert document.sitemaps == [f"{SITE}/a.xml.gz", f"{SITE}/b.xml"]
    for name, count in (("a.xml.gz", 1), ("b.xml", 2)):
        found = asyncio.run(propose(str(tmp_path / name), PLAYBOOK, Settings.of({}), 10))
        assert len(found.items) == count
    few = asyncio.run(propose(str(tmp_path / "b.xml"), PLAYBOOK, Settings.of({}), 1))
    assert len(few.items) == 1
    assert "more than 1" in few.not_read[0]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html><body>no</body></html>", "no sitemap"),
        (b"<urlset><url>", "no sitemap"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><urlset/>', "document type"),
        (b"\x1f\x8bbroken", "compression is broken"),
        (gzip.compress(bytes(sitemap.MAX_BYTES + 1)), "more than 50 MiB"),
        (b"<urlset>" + b"<a>" * 50, "nested too deeply"),
    ],
    ids=str,
)
def test_what_is_no_sitemap_is_refused(body: bytes, what: str) -> None:
    with pytest.raises(Reject, match=what):
        sitemap.parse(body, 10)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/sitemap.xml", "http://localhost/x", "http://[::1]/x", "http://10.1.2.3/x",
     "http://169.254.169.254/latest"],
)  # fmt: skip
def test_in_production_no_private_address_is_asked(url: str) -> None:
    settings = Settings.of({"RIPELINE_ENVIRONMENT": "production"})
    with pytest.raises(Reject, match="not a public address"):
        asyncio.run(sitemap.read(url, settings, 10))


async def serve(answers: dict[str, bytes]) -> tuple[asyncio.Server, str]:
    """A server of raw answers by path, and its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1].decode()
        while (await reader.readline()).strip():
            pass
        writer.write(answers[path])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_by_http_redirects_are_followed_and_bounded() -> None:
    body = sitemap_of("/blog/one")
    server, base = await serve({
        "/a": b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
        "/b": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        "/loop": b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
        "/file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        "/gone": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    })  # fmt: skip
    settings = Settings.of({"RIPELINE_ENVIRONMENT": "test"})
    async with server:
        found = await sitemap.read(f"{base}/a", settings, 10)
        assert [entry.url for entry in found.entries] == [f"{SITE}/blog/one"]
        for path, what in (
            ("/loop", "too often"),
            ("/file", "too often"),
            ("/gone", "answered 404"),
        ):
            with pytest.raises(Reject, match=what):
                await sitemap.read(base + path, settings, 10)
    with pytest.raises(Retry):
        await sitemap.read(f"{base}/a", settings, 10)


def run(*arguments: str) -> Any:
    """The command's result."""
    return CliRunner().invoke(command_line, ["content", "import", *arguments])


TABLE = (
    "Title;URL;Stage;Language\n"
    'Was "Stillstand": {{ kostet }} #1;https://www.acme.example/de/blog/stillstand;awareness;de\n'
    "Rounds;https://www.acme.example/checklist/rounds;;\n"
    "Nothing;none;;\n"
)


def test_a_table_becomes_yaml_that_a_playbook_takes(tmp_path: Path) -> None:
    table, out = tmp_path / "have.csv", tmp_path / "out.yaml"
    table.write_text(TABLE, encoding="utf-8")
    done = run(str(table), "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [item["state"] for item in report["items"]] == ["draft", "draft"]
    assert report["not_read"] == ["line 4: no address that begins with http"]
    text = out.read_text("utf-8")
    assert "# it is given" in text
    items = yaml.safe_load(text)["content"]
    assert items[0]["title"] == 'Was "Stillstand": {{ kostet }} #1'
    raw = PLAYBOOK.model_dump(mode="json")
    grown = Playbook.model_validate(raw | {"content": raw["content"] + items})
    assert grown.content_by_id["rounds"].state == "draft"
    assert grown.fold_hash == PLAYBOOK.fold_hash  # a draft says nothing of anybody
    assert run(str(table), "--out", str(out)).exit_code == 2  # an edited file is kept


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("a,b\n1,2\n")
    for place, what in ((str(tmp_path / "no.xml"), "No such file"), (str(empty), "no column")):
        done = run(place)
        assert done.exit_code
        assert what in str(done.exception)
