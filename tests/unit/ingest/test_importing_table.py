"""Files as Excel and others write them: encoding, delimiter, quoting, and rows that are broken
(I3).
"""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.importing.mapping_file import load
from services.ingest.importing.rows import Rows
from services.ingest.importing.table import MAX_CELL, Row, Table
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile
from tests.unit.ingest.importing import FACTS

GERMAN = "Name;Straße;Ort\r\nJürgen Müller;Höhenweg 7;Köln\r\nÅsa Çelik;Gänsemarkt 1;Düren\r\n"
CELLS = [
    ["Name", "Straße", "Ort"],
    ["Jürgen Müller", "Höhenweg 7", "Köln"],
    ["Åsa Çelik", "Gänsemarkt 1", "Düren"],
]


def table(
    path: Path, content: bytes | str, written: str = "utf-8", **options: str
) -> tuple[Table, list[Row]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(written))
    found = Table(path, **options)
    try:
        return found, list(found.rows())
    finally:
        found.close()


def refusals(rows: list[Row]) -> list[tuple[int, str]]:
    return [(row.line, row.reject.title) for row in rows if row.reject]


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-8",
        "utf-8-sig",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "cp1252",
        "latin-1",
        "iso8859_15",
    ],
)
def test_every_encoding_that_office_programs_write_is_read(tmp_path: Path, encoding: str) -> None:
    found, rows = table(tmp_path / "f.csv", GERMAN, encoding)
    assert [found.header.names, *(row.cells for row in rows)] == CELLS
    assert [row.line for row in rows] == [2, 3]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "Imię;Miasto\nŁukasz Żółć;Kraków i Świętochłowice\n"),
        ("cp1251", "Имя;Город\nАнна Каренина;Санкт-Петербург и Москва\n"),
        ("shift_jis", "名前;都市\n山田太郎さん;東京都千代田区\n"),
    ],
)
def test_other_scripts_are_guessed(tmp_path: Path, encoding: str, text: str) -> None:
    found, rows = table(tmp_path / "f.csv", text, encoding)
    assert [found.header.names, rows[0].cells] == [line.split(";") for line in text.splitlines()]


def test_the_first_odd_byte_may_come_late(tmp_path: Path) -> None:
    """The sample at the beginning is plain ASCII."""
    body = "name,city\n" + "Ann,London\n" * 200_000 + "Jürgen,Köln\n"
    found, rows = table(tmp_path / "f.csv", body, "cp1252")
    assert (found.encoding, rows[-1].cells) == ("cp1252", ["Jürgen", "Köln"])
    found, rows = table(tmp_path / "g.csv", body, "utf-8")
    assert (found.encoding, rows[-1].cells) == ("utf-8", ["Jürgen", "Köln"])


def test_a_person_may_say_the_encoding_and_the_delimiter(tmp_path: Path) -> None:
    found, rows = table(
        tmp_path / "f.csv", "a~b\nł~1,2\n".encode("cp1250"), encoding="cp1250", delimiter="~"
    )
    assert (found.header.names, rows[0].cells) == (["a", "b"], ["ł", "1,2"])
    for options in ({"encoding": "klingon"}, {"delimiter": "\n"}):
        with pytest.raises(Reject):
            table(tmp_path / "f.csv", "a,b\n", **options)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_delimiter_and_line_end_is_found(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = [["E-mail", "Deal, value"], ["a@x.example", "1,5"], ["b@x.example", "2;7"]]
    body = end.join(delimiter.join(f'"{cell}"' for cell in line) for line in lines) + end
    found, rows = table(tmp_path / "f.csv", body)
    assert found.delimiter == delimiter
    assert [found.header.names, *(row.cells for row in rows)] == lines


def test_excels_sep_line_names_the_delimiter(tmp_path: Path) -> None:
    found, rows = table(
        tmp_path / "f.csv",
        '\ufeffsep=;\r\nName;Note\r\nAnn;"two\r\nlines, and a ""quote"""\r\nBo;\r\n',
    )
    assert found.header.names == ["Name", "Note"]
    assert rows == [Row(3, ["Ann", 'two\r\nlines, and a "quote"']), Row(5, ["Bo", ""])]


def test_decimal_commas_do_not_pass_for_the_delimiter(tmp_path: Path) -> None:
    found, _ = table(tmp_path / "f.csv", "Name;Wert\nAnn;1,5\nBo;2,5\n")
    assert found.delimiter == ";"


def test_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    found, rows = table(tmp_path / "f.csv", "E-mail\na@x.example\n\nb@x.example\n")
    assert (found.header.names, [row.line for row in rows]) == (["E-mail"], [2, 4])


def test_broken_rows_are_reported_where_they_stand_and_harm_no_other(tmp_path: Path) -> None:
    body = (
        'a,b\n1,2\n"open,2\n3\n4,5,6\n7,\x008\n"x"y,1\n9,10,,\n,\n'
        + "g" * (MAX_CELL + 1)
        + ",1\n11,12\n"
    )
    _, rows = table(tmp_path / "f.csv", body)
    assert [row.cells for row in rows if not row.reject] == [
        ["1", "2"],
        ["3", ""],
        ["9", "10"],
        ["g" * MAX_CELL, "1"],
        ["11", "12"],
    ]
    assert refusals(rows) == [
        (3, "the quotes do not match"),
        (5, "more cells than columns"),
        (6, "a NUL character"),
        (7, "the quotes do not match"),
    ]


def test_a_quote_that_is_never_closed_swallows_nothing(tmp_path: Path) -> None:
    rows = table(tmp_path / "f.csv", 'a,b\n"open,1\n' + "x,y\n" * 3_000)[1]
    assert refusals(rows) == [(2, "a cell is too long")]
    assert sum(row.cells == ["x", "y"] for row in rows) == 3_000


def test_a_line_without_end_is_one_reported_row(tmp_path: Path) -> None:
    rows = table(tmp_path / "f.csv", "a,b\n1,2\n" + "z" * 3_000_000 + "\n3,4\n")[1]
    assert [row.cells for row in rows if not row.reject] == [["1", "2"], ["3", "4"]]
    assert len(refusals(rows)) == 1


def test_bytes_that_are_no_text_of_the_encoding_are_reported(tmp_path: Path) -> None:
    rows = table(tmp_path / "f.csv", b"a,b\nx,\xff\xfe\ny,1\n", encoding="utf-8")[1]
    assert refusals(rows) == [(2, "characters that cannot be read")]


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xff\xfe", b",,\n,,\n", b"\xad"])
def test_an_empty_file_says_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Reject, match="empty"):
        table(tmp_path / "f.csv", content)


_PIECES = [b'"', b",", b";", b"\n", b"\r", b"\0", b"a@x.example", b"\xff", b"2026-01-02"]
_scribble = st.binary(max_size=400) | st.lists(st.sampled_from(_PIECES), max_size=60).map(b"".join)


@given(content=_scribble)
def test_any_bytes_end_in_rows_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """I3: whatever is uploaded as a file, each row is read or reported, and nothing crashes."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    try:
        found, rows = table(path, content)
        name = next(name for name in found.header.names if name)
        reader = Rows(load(f"kind: leads\nlead: {name!r}\ntraits: all\n", "m"), found.header, FACTS)
    except (Reject, InvalidFile):
        return
    for row in rows:
        assert row.reject or reader.read(row.cells)


def test_a_shuffled_alphabet_of_quotes_always_reads_the_rows_after_it(tmp_path: Path) -> None:
    """What stands behind a mess is still there."""
    rng = random.Random(7)
    for _ in range(200):
        mess = "".join(rng.choice('",\nab') for _ in range(30))
        rows = table(
            tmp_path / "f.csv", f"a,b\n{mess}\n{'clean,row' + chr(10)}" * 1 + "clean,row\n" * 3
        )[1]
        assert sum(row.cells == ["clean", "row"] for row in rows) >= 2
