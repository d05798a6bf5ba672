"""What real files hold beside their rows: lines before the header, doubled names, several addresses
in a cell, days and months in one order, sheets; taken and said, asked, or refused (I3).
"""

import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from services.ingest.importing.detection import delimiter_of
from services.ingest.importing.mapping_file import load, read, templates
from services.ingest.importing.opening import answered, examine, reading_of
from services.ingest.importing.questions import Uncertain
from services.ingest.importing.rows import Rows
from services.ingest.importing.run import DryRun, Import, ImportReport, Pipeline
from services.ingest.importing.table import Table
from services.ingest.normalise import Normaliser
from services.ingest.sources.contract import Refused
from services.ingest.sources.remarks import plain
from services.ops.__main__ import app
from services.shared.contracts.identity import Cleaner
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile
from services.shared.playbook.sections import Identity
from services.shared.settings import ROOT
from tests.unit.ingest.importing import DATA, FACTS

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SAMPLES = ROOT / "deploy" / "samples"
LINKEDIN = DATA / "linkedin-connections.csv"


async def tried(path: Path, mapping: str) -> tuple[ImportReport, list[Any]]:
    """The report of a dry run, and the items of its rows."""
    plan = load(mapping, "map.yaml")
    table = Table(path, **reading_of(plan.mapping))
    try:
        survey = await examine(table, path, plan.mapping)
        rows, cleaner = Rows(plan, table.header, FACTS, survey.manners(), NOW), FACTS.cleaner()
        notes = rows.notes() | survey.notes()
        pipeline = Pipeline(
            table, rows, Normaliser(cleaner, b"p"), cleaner, DryRun(), NOW, notes=notes
        )
        report = await Import(pipeline, ImportReport(dry_run=True)).run()
        table.rewind()
        found = [rows.read(row.cells) for row in table.rows()]
        return report, [
            plain(item) for row in found if not isinstance(row, Refused) for item in row
        ]
    finally:
        table.close()


def file(folder: Path, *lines: str, name: str = "f.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["import", *arguments])


# -- the shape of a table -------------------------------------------------------------------------


async def test_missing_cells_at_the_end_are_empty(tmp_path: Path) -> None:
    path = file(tmp_path, "E,N,C", "a@x.example", "b@x.example,Bo")
    report, items = await tried(path, "kind: leads\nemail: E\ntraits: {n: N, c: C}")
    assert (report.accepted, [item.traits for item in items]) == (2, [{}, {"n": "Bo"}])


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_double_byte_order_mark_is_no_part_of_a_name(quote: str, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    mark = b"\xef\xbb\xbf" * 2
    path.write_bytes(mark + f"{quote}E-mail{quote},N\na@x.example,x\n".encode())
    table = Table(path)
    assert table.header.names == ["E-mail", "N"]
    table.close()


async def test_of_doubled_names_the_filled_one_is_taken_and_said(tmp_path: Path) -> None:
    path = file(tmp_path, "E,N,E", "a@x.example,1,", ",2,b@x.example", "c@x.example,3,d@x.example")
    report, items = await tried(path, "kind: leads\nemail: E")
    assert [item.email for item in items] == ["a@x.example", "b@x.example", "c@x.example"]
    assert report.as_json()["remarks"] == {
        "the column 'E' stands several times; the first one that is filled was taken": 2
    }


def test_lines_before_the_header_are_proposed() -> None:
    """LinkedIn's export begins with notes."""
    table = Table(LINKEDIN)
    assert (table.skippable, table.header.names) == (3, ["Notes:"])
    table.close()
    with pytest.raises(InvalidFile, match="skip_lines: 3"):
        load("kind: leads\nemail: Email Address", "m.yaml").check(table.header)
    table = Table(LINKEDIN, skip_lines=3)
    assert (table.skippable, table.header.names[3]) == (0, "Email Address")
    assert [row.line for row in table.rows()] == [5, 6]
    table.close()


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("Name;Wert\nAnn;1,5\nBo;2,5\n", ";"),
        ("Export, of 2026\n\nA;B;C\n1;2;3\n4;5;6\n7;8;9\n", ";"),
        ("A;B;C\n1,5;2\n1,5;2\n", ";"),
        ("E\na@x.example\n", ","),
    ],
)
def test_the_delimiter_is_that_of_most_rows(text: str, delimiter: str) -> None:
    assert delimiter_of(text) == delimiter


# -- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "address"),
    [
        ("\ufeff\ufeffAnn@x.example", "ann@x.example"),
        ("\u00a0ann@x.example\u00a0", "ann@x.example"),
        ("\u200eann@x.example\u200f", "ann@x.example"),
        ("\u200bann@x.example\u2060", "ann@x.example"),
        ("ann@M\u00fcller.example", "ann@xn--mller-kva.example"),
        ("ann@xn--mller-kva.example", "ann@xn--mller-kva.example"),
        ("ann@\u4f8b\u3048.\u30c6\u30b9\u30c8", "ann@xn--r8jz45g.xn--zckzah"),
        ("ann@stra\u00dfe.example", "ann@xn--strae-oqa.example"),
        ("\u00e4nn@x.example", ""),
        ("ann@\u200b", ""),
        ("ann@" + "\u00fc" * 5_000 + ".example", ""),
    ],
)
def test_an_address_is_cleaned_alike_at_every_door(cell: str, address: str) -> None:
    cleaner = Cleaner(Identity(junk=[], role_mailboxes=[], free_mail_domains=[]))
    assert cleaner.address(cell) == address


@pytest.mark.parametrize("who", ["email", "lead"])
@pytest.mark.parametrize(
    ("cell", "several"),
    [
        ("ann@x.example; bo@x.example", 1),
        ("ann@x.example,bo@x.example", 1),
        ("ann@x.example / Bo <bo@x.example>", 1),
        ("Ann Lee <ann@x.example>", 0),
        ("mailto:ann@x.example", 0),
        ("ann@x.example ann@X.example", 0),
    ],
)
async def test_of_several_addresses_the_first_is_taken_and_said(
    cell: str, several: int, who: str, tmp_path: Path
) -> None:
    path = file(tmp_path, "E\tN", f"{cell}\tx")
    report, [item] = await tried(path, f"kind: leads\n{who}: E")
    assert (item.email, report.accepted) == ("ann@x.example", 1)
    said = "email: several values where one is taken; the first was"
    assert report.remarks.get(said, 0) == several


async def test_a_suppression_list_suppresses_every_address_of_a_cell(tmp_path: Path) -> None:
    path = file(tmp_path, "E;N", "ann@x.example, bo@x.example;x")
    _, items = await tried(path, "kind: suppressions\nemail: E")
    assert [item.email for item in items] == ["ann@x.example", "bo@x.example"]


# -- a column of times as a whole -----------------------------------------------------------------

TIMED = "kind: leads\nemail: E\ntime: T"


async def times_of(folder: Path, *times: str, mapping: str = TIMED) -> tuple[list[str], list[str]]:
    """(times in UTC, remarks) of a file with these times."""
    lines = (f"p{n}@x.example;{time}" for n, time in enumerate(times))
    report, items = await tried(file(folder, "E;T", *lines), mapping)
    return [f"{item.occurred_at:%Y-%m-%d %H:%M}" for item in items], list(report.remarks)


UTC_TIMED = "kind: leads\nemail: E\ntime: {column: T, zone: UTC}"


@pytest.mark.parametrize(
    ("times", "read"),
    [
        (["03/04/2026", "15/05/2026"], ["2026-04-03 00:00", "2026-05-15 00:00"]),
        (["03/04/2026 10:00", "5/15/2026 9:05 PM"], ["2026-03-04 10:00", "2026-05-15 21:05"]),
        (["3.4.2026", "31.12.2025"], ["2026-04-03 00:00", "2025-12-31 00:00"]),
        (
            ["45992", "45992.5", "46000,25"],
            ["2025-12-01 00:00", "2025-12-01 12:00", "2025-12-09 06:00"],
        ),
    ],
)
async def test_a_column_decides_as_a_whole(
    times: Sequence[str], read: list[str], tmp_path: Path
) -> None:
    found, remarks = await times_of(tmp_path, *times, mapping=UTC_TIMED)
    assert found == read
    assert len(remarks) == 1
    assert times[0] in remarks[0] or times[1] in remarks[0]


async def test_a_column_that_decides_nothing_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Uncertain) as raised:
        await times_of(tmp_path, *(f"0{n}/04/2026" for n in (1, 2, 3, 5, 6)))
    [question] = raised.value.questions
    assert (question.path, [choice.answer for choice in question.choices]) == (
        ("time", "order"),
        ["dmy", "mdy"],
    )
    assert question.choices[0].rows[0] == "01/04/2026 is 1 April 2026"
    plain_mapping = yaml.safe_load(TIMED)
    mapping = yaml.safe_dump(answered(plain_mapping, question.path, "mdy"))
    found, _ = await times_of(tmp_path, "01/04/2026", mapping=mapping)
    assert found == ["2026-01-03 23:00"]


async def test_one_odd_cell_among_others_is_refused_alone(tmp_path: Path) -> None:
    rows = ["2026-03-04", "2026-03-05", "03/04/2026", "45992"]
    path = file(tmp_path, "E;T", *(f"p{n}@x.example;{time}" for n, time in enumerate(rows)))
    report, _ = await tried(path, TIMED)
    assert report.reasons == {"a date that can be read in two ways": 1, "not a time": 1}


def test_an_answer_finds_its_place_in_every_form_of_the_mapping() -> None:
    assert answered({"time": "T"}, ("time", "order"), "dmy") == {
        "time": {"column": "T", "order": "dmy"}
    }
    at = {"consent": {"column": "OK", "at": "T"}}
    assert answered(at, ("consent", 0, "at", "order"), "dmy") == {
        "consent": [{"column": "OK", "at": {"column": "T", "order": "dmy"}}]
    }
    assert answered({}, ("encoding",), "cp1250") == {"encoding": "cp1250"}


# -- sheets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["xlsx", "xls", "ods"])
async def test_a_sheet_is_a_table_with_dates_as_the_sheet_has_them(kind: str) -> None:
    """As LibreOffice writes them."""
    path = DATA / "sheets" / f"badges.{kind}"
    report, items = await tried(
        path,
        "kind: leads\nemail: E-mail\ntime: {column: Scanned, zone: UTC}\nskip_lines: 2\n"
        "external_id: Customer\ntraits: {name: Name, day: Day, note: Note}",
    )
    assert (report.accepted, report.rejected) == (3, 0)
    assert [item.occurred_at for item in items] == [
        datetime(2026, 5, 15, 14, 5, tzinfo=UTC),
        datetime(2026, 3, 4, tzinfo=UTC),
        datetime(2026, 3, 4, 8, 30, 15, tzinfo=UTC),
    ]
    assert items[0].traits == {"name": "Zoë Łukasz", "day": "2026-05-15", "note": "first\nline"}
    assert items[1].external_id.id == "4711"
    table = Table(path)
    assert (table.skippable, table.encoding) == (2, "spreadsheet")
    table.close()
    for sheet in ("Old", "2"):
        table = Table(path, sheet=sheet)
        assert [row.cells for row in table.rows()] == [["old@x.example"]]
        table.close()
    with pytest.raises(Reject, match="no sheet 'None'"):
        Table(path, sheet="None")


WORKBOOK = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
    '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/'
    '2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/'
    'officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
}
CELL = '<c r="{}" t="inlineStr"><is><t>x</t></is></c>'
ROWS = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">{}<sheetData>'
    '<row r="1">{}{}</row><row r="{}">{}</row></sheetData></worksheet>'
)
A1, MEGABYTE = CELL.format("A1"), f"<!--{'a' * (1 << 20)}-->"


@pytest.mark.parametrize(
    ("sheet", "padding", "what"),
    [
        (ROWS.format("", A1, CELL.format("XFD1"), 2, CELL.format("A2")), 0, "2000 columns"),
        (ROWS.format("", A1, "", 1048576, CELL.format("XFD1048576")), 0, "too large"),
        (ROWS.format("", A1, "", 2, CELL.format("A2")), 513, "too large"),
    ],
    ids=["sixteen thousand columns", "a cell far away", "a bomb"],
)
def test_a_sheet_that_grows_without_end_is_refused(
    sheet: str, padding: int, what: str, tmp_path: Path
) -> None:
    """Attack: memory; the process that reads it has its end."""
    path = tmp_path / "f.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in WORKBOOK.items():
            archive.writestr(name, text)
        with archive.open("xl/worksheets/sheet1.xml", "w") as member:
            member.write(sheet.encode())
            for _ in range(padding):
                member.write(MEGABYTE.encode())
    assert path.stat().st_size < 8 << 20
    with pytest.raises(Reject, match=what):
        Table(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04 nothing", "cannot be read"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 nothing", "cannot be read"),
        (b"<html><table><tr><td>a@x.example</td></tr></table></html>", "web page"),
    ],
)
def test_what_only_looks_like_a_sheet_says_so(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "f.xls"
    path.write_bytes(content)
    with pytest.raises(Reject, match=what):
        Table(path)


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", templates())
def test_every_template_has_a_sample_that_it_reads(name: str) -> None:
    done = command(str(SAMPLES / f"{name}.csv"), "--mapping", name, "--dry-run")
    assert done.exit_code == 0
    assert ", 0 rejected" in done.stdout


@pytest.mark.parametrize("name", templates())
def test_a_mapping_without_a_file_names_its_columns(name: str) -> None:
    done = command("--mapping", name)
    assert done.exit_code == 0
    email = read(name).mapping.email
    assert f" {email} " in done.stdout


def test_an_open_question_ends_with_code_2_and_names_the_key(tmp_path: Path) -> None:
    path, plan = tmp_path / "f.csv", tmp_path / "m.yaml"
    body = "E,N,T\na@x.example,Peña,03/04/2026\nb@x.example,Bo,04/05/2026\nc@x.example,Cy,\n"
    path.write_bytes(body.encode("cp1252"))
    plan.write_text("kind: leads\nemail: E\ntime: T\ntraits: {n: N}\n")
    for arguments in (["--dry-run"], ["--dry-run", "--json"], ["--as", "history"]):
        done = command(str(path), "--mapping", str(plan), *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        for text in ("encoding: cp1252", "Peña", "encoding: cp1250", "Peńa", "order: dmy"):
            assert text in done.stderr
    answers = ["--set", "encoding: cp1252", "--set", "time: {column: T, order: dmy}"]
    done = command(str(path), "--mapping", str(plan), "--dry-run", *answers)
    assert (done.exit_code, "3 would be accepted" in done.stdout) == (0, True)


def test_without_a_mapping_lines_before_the_header_are_left_out_and_said() -> None:
    done = command(str(LINKEDIN), "--dry-run")
    assert (done.exit_code, "2 would be accepted" in done.stdout) == (0, True)
    assert "skip_lines: 3" in done.stderr
    assert "time: Connected On" in done.stderr
