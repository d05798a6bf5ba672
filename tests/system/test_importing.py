"""Files on the real system: the command here and from afar, what history and new leads do,
suppressions, twice (I3, N6, U4).
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import uuid
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from services.ops.__main__ import app
from services.shared.settings import ROOT
from tests.support import present
from tests.support.running_system import System, body_of, wait_until

LOANS = ROOT.parent / "shared" / "data" / "bpi2012_loan_leads.csv"
LEADS = """
kind: leads
email: E-mail
type: demo_requested
time: When
traits: {name: Name, timezone: Zone}
consent: {column: OK, equals: yes, basis: badge scan}
source: fair
"""
EVENTS = """
kind: events
lead: CaseID
type:
  column: ActivityID
  names: {1: page_viewed, 2: content_downloaded, 3: form_submitted, 4: meeting_held, 5: call_held}
time: CompleteTimestamp
outcome: {column: ActivityID, equals: 6}
"""


class ImportCommand:
    """The command line as a person at this machine uses it; in this process, for its start takes
    longer than its work.
    """

    def __init__(self, system: System, folder: Path) -> None:
        self.system, self.folder = system, folder

    def run(self, *arguments: str) -> Result:
        environ = dict.fromkeys(name for name in os.environ if name.startswith("RIPELINE_"))
        return CliRunner().invoke(app, arguments, env=environ)

    def imported(self, rows: list[list[str]], mapping: str, *arguments: str) -> dict[str, Any]:
        """The report of an import of these rows, the header first."""
        file, plan = (
            self.folder / f"{uuid.uuid4().hex}.csv",
            self.folder / f"{uuid.uuid4().hex}.yaml",
        )
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, delimiter=";").writerows(rows)
        plan.write_text(mapping)
        return self.report(file, plan, *arguments)

    def report(self, file: Path, plan: Path, *arguments: str) -> dict[str, Any]:
        done = self.run("import", str(file), "--mapping", str(plan), "--json", *arguments)
        assert done.exit_code == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert found["rows"] == found["accepted"] + found["rejected"]
        return found

    def to(self) -> list[str]:
        """The arguments that lead through ingest."""
        return ["--to", self.system.ingest, "--key", self.system.keys["secret"]]


@pytest.fixture
def command(
    system: System, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ImportCommand:
    # where the running system is found
    monkeypatch.setattr(tempfile, "tempdir", str(scratch / "system" / "tmp"))
    return ImportCommand(system, tmp_path)


def badge(
    email: str, when: str = "", ok: str = "yes", name: str = "Zoë Ångström"
) -> list[list[str]]:
    at = when or (present.now() - timedelta(days=5)).isoformat()
    return [["E-mail", "Name", "When", "Zone", "OK"], [email, name, at, present.midday_zone(), ok]]


def decided(system: System, lead: str) -> dict[str, Any]:
    """The first decision on a lead."""
    return wait_until(lambda: system.touches(lead))[0]


def test_history_moves_the_score_and_sends_nothing(system: System, command: ImportCommand) -> None:
    """I3, N6: a demo asked for five days ago, with permission, and yet no mail: it was imported as
    history.
    """
    email = system.address()
    report = command.imported(badge(email), LEADS, "--as", "history")
    assert (report["accepted"], report["leads"], report["as"]) == (1, 1, "history")
    lead = system.wait_for_lead(email=email)
    assert (lead["stage"], lead["source"], lead["traits"]["name"]) == (
        "decision",
        "fair",
        "Zoë Ångström",
    )
    touch = decided(system, lead["id"])
    assert (touch["status"], touch["reason"]) == ("withheld", "history")
    event = next(item for item in system.timeline(lead["id"]) if item["kind"] == "event")
    assert (event["flags"], event["source"]) == ("history", "import:default")
    assert system.mails(email) == []


def test_new_leads_enter_programs_now_whenever_it_happened(
    system: System, command: ImportCommand
) -> None:
    email = system.address()
    when = (present.now() - timedelta(days=20)).isoformat()
    assert (
        command.imported(badge(email, when), LEADS, "--as", "new_leads", "--days", "0")["as"]
        == "new_leads"
    )
    lead = system.wait_for_lead(email=email)
    touch = wait_until(lambda: system.touches(lead["id"], status="sent"))[0]
    mail = wait_until(lambda: system.mails(email, touch["id"]))[0]
    assert "Zoë" in body_of(mail)


def test_new_leads_are_let_in_over_the_days_given(system: System, command: ImportCommand) -> None:
    emails = [system.address(f"n{n}") for n in range(8)]
    rows = [badge("")[0], *(badge(email)[1] for email in emails)]
    command.imported(rows, LEADS, "--as", "new_leads", "--days", "30")
    touches = [decided(system, system.wait_for_lead(email=email)["id"]) for email in emails]
    assert {touch["status"] for touch in touches} == {"due"}
    due = sorted(datetime.fromisoformat(touch["due_at"]) - present.now() for touch in touches)
    assert due[0] >= timedelta(0)
    assert timedelta(days=3) < due[-1] - due[0] < timedelta(days=31)


def test_what_is_older_than_400_days_announces_nothing_even_as_a_new_lead(
    system: System, command: ImportCommand
) -> None:
    email = system.address()
    command.imported(
        badge(email, (present.now() - timedelta(days=401)).isoformat()),
        LEADS,
        "--as",
        "new_leads",
        "--days",
        "0",
    )
    lead = system.wait_for_lead(email=email)
    event = next(item for item in system.timeline(lead["id"]) if item["kind"] == "event")
    assert event["flags"] == "old new_leads:0"
    assert system.touches(lead["id"]) == []


def test_a_suppression_list_that_was_imported_first_holds_against_a_permission_of_a_file(
    system: System, command: ImportCommand
) -> None:
    """N6: also where the permission is of today, and after both files were imported again."""
    email = system.address()
    suppressions = [["Address"], [email.upper()]]
    assert command.imported(suppressions, "kind: suppressions\nemail: Address")["accepted"] == 1
    undated = LEADS.replace("time: When\n", "")
    for _ in range(2):
        command.imported(badge(email), undated, "--as", "new_leads", "--days", "0")
        command.imported(badge(email), LEADS, "--as", "new_leads", "--days", "0")
    lead = system.wait_for_lead(3, email=email)
    touch = decided(system, lead["id"])
    assert (touch["status"], touch["reason"]) == ("withheld", "no_consent")
    assert [consent["state"] for consent in lead["consent"]] == ["withdrawn"]
    assert system.mails(email) == []


def test_a_suppression_list_that_is_imported_again_does_not_take_a_later_permission_back(
    system: System, command: ImportCommand
) -> None:
    """I3: twice is once, also for words without a date."""
    email = system.address()
    suppressions = [["Address"], [email]], "kind: suppressions\nemail: Address"
    command.imported(*suppressions)
    assert system.wait_for_lead(email=email)["events_counted"] == 1
    system.post_event(
        email=email, type="form_submitted", consent=[{"state": "given", "basis": "form"}]
    )
    system.wait_for_lead(2, email=email)
    command.imported(*suppressions)
    command.imported(*suppressions, *command.to())
    system.post_event(
        email=email, type="demo_requested", traits={"timezone": present.midday_zone()}
    )
    lead = system.wait_for_lead(3, email=email)
    assert lead["events_counted"] == 3
    assert wait_until(lambda: system.touches(lead["id"], status="sent"))


def test_the_other_way_and_another_word_change_nothing(
    system: System, command: ImportCommand
) -> None:
    """I3: the same file here and through ingest, as history and as new leads, is one set of
    events.
    """
    email = system.address()
    rows = [*badge(email), badge(email, "2026-01-05 10:00")[1], badge(email)[1]]
    mapping = (
        LEADS + "outcome: {column: Name, equals: Zoë Ångström, time: {constant: 2026-02-01}}\n"
    )
    dry = command.imported(rows, mapping, "--as", "history", "--dry-run", *command.to())
    assert (dry["accepted"], dry["events"], dry["dry_run"]) == (3, 6, True)
    assert system.lookup(email=email) is None
    first = command.imported(rows, mapping, "--as", "history")
    assert {name: first[name] for name in ("rows", "accepted", "leads")} == {
        "rows": 3,
        "accepted": 3,
        "leads": 1,
    }
    known = system.wait_for_lead(4, email=email)
    # two rows are one and the same, and so is the outcome of all three, but for its own date
    assert known["events_counted"] == 4
    command.imported(rows, mapping, "--as", "new_leads", *command.to())
    command.imported(rows, mapping, "--as", "history", *command.to())
    system.post_event(email=email, type="noted")
    assert system.wait_for_lead(5, email=email)["events_counted"] == 5


def test_rejected_rows_are_reported_by_both_ways_alike(
    system: System, command: ImportCommand
) -> None:
    email = system.address()
    broken = [
        badge("")[0], badge(email)[1], ["=HYPERLINK(1)", "Bo", "2026-01-01", "", ""],
        ["bo@x.example", "Bo", "01/02/2026", "", ""],
        ["guest", "", "", "", ""], ["dy@x.example", "", "", "", "", "more"], ["short"],
    ]  # fmt: skip
    reports = []
    for number, way in enumerate(([], command.to(), ["--dry-run"])):
        rejects = command.folder / f"rejected{number}.csv"
        reports.append(
            command.imported(broken, LEADS, "--as", "history", "--rejects", str(rejects), *way)
        )
        with rejects.open(encoding="utf-8-sig", newline="") as stream:
            table = list(csv.reader(stream))
        assert table[0] == ["line", "reason", "remedy", "E-mail", "Name", "When", "Zone", "OK"]
        assert [row[0] for row in table[1:]] == ["3", "4", "5", "6", "7"]
        assert table[1][3] == "'=HYPERLINK(1)"
        assert all(row[1] for row in table[1:])
    counts = [
        {name: report[name] for name in ("rows", "accepted", "rejected", "leads", "reasons")}
        for report in reports
    ]
    assert counts[0] == counts[1] == counts[2]
    assert counts[0]["reasons"] == {
        "not a mail address": 2,
        "a date that can be read in two ways": 1,
        "identifies nobody": 1,
        "more cells than columns": 1,
    }


def test_a_long_cell_is_cut_by_both_ways_alike_and_the_lead_is_kept(
    system: System, command: ImportCommand
) -> None:
    said = {"traits/name: a text over the limit, which was cut": 1}
    for way in ([], command.to()):
        email = system.address()
        rows = [badge("")[0], badge(email, name="Zoë" * 4000)[1]]
        report = command.imported(rows, LEADS, "--as", "history", *way)
        assert (report["accepted"], report["remarks"]) == (1, said)
        lead = system.wait_for_lead(email=email)
        event = next(item for item in system.timeline(lead["id"]) if item["kind"] == "event")
        assert event["flags"] == "cut history"


def test_a_mistake_ends_before_any_row_with_code_2(system: System, command: ImportCommand) -> None:
    file, plan = command.folder / "f.csv", command.folder / "m.yaml"
    file.write_text("Mail\na@x.example\n")
    plan.write_text("kind: leads\nemail: Mial\n")
    for arguments in ([], command.to(), ["--to", system.scorer, "--key", "x"], ["--dry-run"]):
        done = command.run("import", str(file), "--mapping", str(plan), "--json", *arguments)
        assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    plain = subprocess.run(
        [sys.executable, "-m", "services.ops", "import", str(file), "--mapping", str(plan)],
        cwd=ROOT, env=present.environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (plain.returncode, plain.stdout) == (2, "")
    assert "m.yaml:2: email: no column 'Mial' in the file. Did you mean 'Mail'?" in plain.stderr
    for wrong in (
        [str(file)],
        [str(command.folder / "none.csv"), "--mapping", "hubspot"],
        [str(file), "--mapping", "none"],
        [],
    ):
        assert command.run("import", *wrong).exit_code == 2
    refused = command.run(
        "import",
        str(file),
        "--mapping",
        str(plan),
        "--to",
        system.ingest,
        "--key",
        system.keys["query"],
    )
    assert refused.exit_code == 2
    assert "may not do this" in refused.stderr


@pytest.mark.parametrize("through_ingest", [False, True])
@pytest.mark.parametrize("declared", [("history", "0"), ("new_leads", "3")])
def test_an_import_is_in_the_audit_log_with_who_and_how_many(
    system: System, command: ImportCommand, through_ingest: bool, declared: tuple[str, str]
) -> None:
    """I3: when it begins, and when it has ended; a key by its name."""
    import_as, days = declared
    file, plan = command.folder / f"{uuid.uuid4().hex}.csv", command.folder / "m.yaml"
    rows = badge(system.address()) + badge("nobody")[1:]
    file.write_text("\n".join(";".join(row) for row in rows))
    plan.write_text(LEADS)
    to = command.to() if through_ingest else []
    tried = command.report(file, plan, "--as", import_as, "--days", days, "--dry-run", *to)
    assert tried["rejected"] == 1
    command.report(file, plan, "--as", import_as, "--days", days, *to)
    asked = {"action": "import", "subject": f"file {file.name}"}
    ended, began = system.query("/v1/audit", **asked)["audit"]
    kinds = {line["actor_kind"] for line in (began, ended)}
    assert kinds == {"key" if through_ingest else "command line"}
    if through_ingest:
        assert began["actor"] == ended["actor"] == "key default"
    assert (began["details"]["as"], began["details"]["days"]) == (import_as, int(days))
    assert began["at"] <= ended["at"]
    assert not {"rows", "accepted", "rejected"} & began["details"].keys()
    assert [ended["details"][name] for name in ("rows", "accepted", "rejected")] == [2, 1, 1]


def test_what_a_program_of_its_own_imports_is_in_the_audit_log(system: System) -> None:
    item = {"id": uuid.uuid4().hex, "type": "noted", "email": system.address()}
    before = len(system.query("/v1/audit", action="import", subject="events")["audit"])
    assert system.post("/v1/import?as=history", "secret", json=[item, item]).status_code == 200
    lines = system.query("/v1/audit", action="import", subject="events")["audit"]
    assert len(lines) == before + 1
    assert (lines[0]["actor"], lines[0]["details"]["items"]) == ("key default", 2)


@pytest.mark.parametrize(
    ("query", "scope", "status"),
    [("?as=history", "public", 403), ("?as=history", "query", 403), ("?as=soon", "secret", 400),
    ("?days=x", "secret", 400),
     ("?as=new_leads&days=91", "secret", 400), ("?rows=many", "secret", 400), ("", "secret", 200)],
)  # fmt: skip
def test_the_door_of_imports_is_open_to_secret_keys_that_say_what_they_bring(
    system: System, query: str, scope: str, status: int
) -> None:
    item = {"id": uuid.uuid4().hex, "type": "noted", "email": system.address()}
    assert system.post(f"/v1/import{query}", scope, json=[item]).status_code == status


def test_what_an_importer_has_to_know_is_told_to_secret_keys_alone(system: System) -> None:
    offered = system.http.get(f"{system.ingest}/v1/import", headers=system.key("secret")).json()
    assert (offered["zone"], offered["outcome"]) == (
        system.playbook.company.timezone,
        system.playbook.model.outcome,
    )
    assert "demo_requested" in offered["types"]
    for scope in ("public", "query"):
        assert (
            system.http.get(f"{system.ingest}/v1/import", headers=system.key(scope)).status_code
            == 403
        )
    assert httpx.get(f"{system.ingest}/v1/import").status_code == 401


def _twice(system: System, command: ImportCommand, file: Path, rows: int) -> None:
    plan = command.folder / "events.yaml"
    plan.write_text(EVENTS)
    first = command.report(file, plan)
    with file.open() as stream:
        leads = {line.split(",")[0] for line in islice(stream, 1, None)}
    assert (first["rows"], first["accepted"], first["leads"]) == (rows, rows, len(leads))
    again = command.report(file, plan, *command.to())
    assert again == first
    wait_until(
        lambda: not any(json.loads(command.run("status", "--json").stdout)["lag"].values()), 600
    )
    with file.open() as stream:
        distinct = {line.strip() for line in islice(stream, 1, None)}
    counted = 0
    for case in sorted(leads)[:50]:
        lead = system.wait_for_lead(user_id=case)
        assert lead["events_counted"] == sum(line.startswith(f"{case},") for line in distinct)
        counted += lead["events_counted"]
    assert counted
    done = command.run("verify", "--json")
    assert done.exit_code == 0, done.stdout
    assert json.loads(done.stdout)["mismatches"] == []


@pytest.mark.skipif(
    not LOANS.exists(), reason="the public log of loan leads is not part of the product"
)
def test_a_log_of_real_leads_is_imported_twice_without_harm(
    system: System, command: ImportCommand
) -> None:
    """I3: counts are equal, and every lead is what its events make of it."""
    part = command.folder / "part.csv"
    with LOANS.open() as stream:
        lines = list(islice(stream, 4_001))
    part.write_text("".join(lines))
    _twice(system, command, part, 4_000)


@pytest.mark.long
@pytest.mark.skipif(
    not LOANS.exists(), reason="the public log of loan leads is not part of the product"
)
def test_the_whole_log_of_real_leads_is_imported_twice_without_harm(
    system: System, command: ImportCommand
) -> None:
    _twice(system, command, LOANS, 72_413)
