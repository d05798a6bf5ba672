"""What `ripeline up` says to people, and of what is otherwise than they expect."""

from types import SimpleNamespace
from typing import Any

from services.ops.cli.up import in_words, line_of, unexpected
from services.ops.embedded.state import SystemInfo


def system(public_url: str, **taken: int) -> Any:
    info = SystemInfo(
        ingest="http://127.0.0.1:43211",
        scorer="http://127.0.0.1:8081",
        keys={"secret": "rl_secret", "public": "rl_public", "query": "rl_query"},
        mail="/tmp/x/mail",
    )
    return SimpleNamespace(info=lambda: info, taken_ports=taken, public_url=public_url)


def test_people_get_addresses_keys_and_lines_to_paste() -> None:
    words = in_words(system("http://127.0.0.1:43211"))
    assert "http://127.0.0.1:8081/sign-in?key=rl_query" in words
    assert "export SECRET=rl_secret PUBLIC=rl_public QUERY=rl_query\n" in words
    assert (
        'curl -s http://127.0.0.1:43211/v1/events -H "Authorization: Bearer $SECRET" \\\n' in words
    )
    assert "/tmp/x/mail" in words


def test_a_port_that_is_taken_is_said_in_words_and_in_the_line() -> None:
    here = system("http://127.0.0.1:43211", ingest=8080)
    assert unexpected(here) == [
        "port 8080 is taken by another program: ingest is at http://127.0.0.1:43211 instead"
    ]
    assert line_of(here)["taken"] == {"ingest": 8080}
    assert "taken" not in line_of(system("http://127.0.0.1:43211"))


def test_links_that_lead_elsewhere_are_said() -> None:
    [sentence] = unexpected(system("http://localhost:8080"))
    assert "links in mails lead to http://localhost:8080 (RIPELINE_PUBLIC_URL)" in sentence
    assert unexpected(system("https://go.firm.example")) == []
