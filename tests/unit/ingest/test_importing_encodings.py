"""Encodings of tables in many languages: read right, or asked; never something else in silence
(I3).
"""

from pathlib import Path

import pytest

from services.ingest.importing.encodings import encodings_of
from services.ingest.importing.opening import encoding_questions
from services.ingest.importing.spelling import is_odd
from services.ingest.importing.table import Table
from tests.unit.ingest.importing import DATA

TABLES = sorted((DATA / "encodings").glob("*.csv"))
# their letters are few, and those of neighbours as plausible: it may ask
SIMILAR = {"cp1254-tr", "cp1252-fr", "cp1252-es", "cp1252-sv", "cp1250-ro", "mac-roman-fr"}
SIMILAR.add("mac-roman-de")


def texts(path: Path, encodings: list[str]) -> list[str]:
    return [path.read_bytes().decode(encoding) for encoding in encodings]


@pytest.mark.parametrize("rows", [5, 20, 200])
@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_a_table_is_read_in_its_own_encoding(table: Path, rows: int, tmp_path: Path) -> None:
    """Names and companies in 24 languages, as LibreOffice writes them."""
    path = tmp_path / "f.csv"
    path.write_bytes(b"\n".join(table.read_bytes().split(b"\n")[: rows + 1]) + b"\n")
    name = table.stem.rpartition("-")[0]
    found = texts(path, encodings_of(path))
    right = path.read_bytes().decode(name)
    assert right in found
    assert found == [right] or (table.stem in SIMILAR and rows < 200)


@pytest.mark.parametrize("rows", [5, 20, 200])
@pytest.mark.parametrize(
    ("table", "encoding"),
    [
        ("cp932-ja", "euc_jp"),
        ("cp932-ja", "iso2022_jp"),
        ("cp949-ko", "euc_kr"),
        ("cp949-ko", "iso2022_kr"),
        ("gb18030-zh", "gb18030"),
    ],
)
def test_siblings_of_an_encoding_are_read_right_or_asked(
    table: str, encoding: str, rows: int, tmp_path: Path
) -> None:
    """Written by programs of Unix and by mail programs: EUC and escapes, the same tables."""
    path = tmp_path / "f.csv"
    text = (DATA / "encodings" / f"{table}.csv").read_bytes().decode(table.partition("-")[0])
    right = "\n".join(text.split("\n")[: rows + 1]) + "\n"
    path.write_bytes(right.encode(encoding))
    found = texts(path, encodings_of(path))
    assert right in found
    assert found == [right] or rows == 5
    reader = Table(path, encodings_of(path)[0])
    assert [row.cells[1] for row in reader.rows()] == [
        line.split(",")[1] for line in right.splitlines()[1:]
    ] or found != [right]
    reader.close()


def test_every_encoding_has_its_table() -> None:
    assert len(TABLES) == 27


@pytest.mark.parametrize(
    ("word", "encoding", "other"),
    [
        ("Muñoz", "cp1252", "cp1250"),
        ("Hélène", "cp1252", "cp1250"),
        ("Kamiński", "cp1250", "cp1252"),
        ("Gülşen", "cp1254", "cp1252"),
        ("Põld", "cp1257", "cp1250"),
        ("박", "cp949", "gb18030"),
    ],
)
def test_one_word_is_too_little_where_two_readings_are_words(
    word: str, encoding: str, other: str, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    body = f"email,name\na@x.example,{word}\nb@x.example,Ann\nc@x.example,Bo\n".encode(encoding)
    path.write_bytes(body)
    assert {body.decode(encoding), body.decode(other)} <= set(texts(path, encodings_of(path)))
    table = Table(path)
    [question] = encoding_questions(table, path)
    table.close()
    assert question.path == ("encoding",)
    rows = {choice.answer: choice.rows for choice in question.choices}
    assert [len(shown) for shown in rows.values()] == [3] * len(rows)
    assert any(word in shown[0] for shown in rows.values())
    assert all(line in str(question) for line in ("encoding: " + name for name in rows))
    table = Table(path, encoding)
    assert encoding_questions(table, path) == []
    table.close()


@pytest.mark.parametrize("word", ["Jürgen", "Łukasz", "Şahin", "김철수", "山田太郎", "محمد"])
def test_utf_8_is_never_asked(word: str, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(f"name\n{word}\n", "utf-8")
    assert encodings_of(path) == ["utf-8"]


def test_a_damaged_character_leaves_utf_8_what_it_is(tmp_path: Path) -> None:
    """The row is refused; the others are not read as something else."""
    path = tmp_path / "f.csv"
    path.write_bytes(b"name,x\n" + "Jürgen,1\n".encode() * 300 + b"J\xfcrgen,1\n")
    table = Table(path)
    rows = list(table.rows())
    table.close()
    assert table.encoding == "utf-8"
    assert {row.cells[0] for row in rows[:-1]} == {"Jürgen"}
    assert rows[-1].reject


def test_what_tells_encodings_apart_may_stand_far_behind(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    common = "email,name\n" + "a@x.example,Müller\n" * 120_000
    path.write_bytes((common + "b@x.example,Łukasz Żółć\n" * 3 + common).encode("cp1250"))
    assert encodings_of(path) == ["cp1250"]


@pytest.mark.parametrize(
    "word",
    [
        "J\u00b8rgen",  # Mac's ü as cp1252
        "M³ller",
        "JČrgen",
        "\u041aamiński",  # a Cyrillic letter
        "Kami蟫ki",
        "뺙뫙퓽傀높섟",
        "Andr\u201a",  # DOS' é as cp1252
        "ÁLvarez",
    ],
)
def test_words_that_no_language_spells_so_are_odd(word: str) -> None:
    assert is_odd(word)


@pytest.mark.parametrize(
    "word",
    [
        "Jürgen",
        "MÜLLER",
        "Łukasz-Żółć",
        "O\u2019Néill",
        "주식회사",
        "LG전자",
        "株式会社",
        "„Müller“",
        "Ünal®",
    ],
)
def test_words_of_every_script_are_not_odd(word: str) -> None:
    assert not is_odd(word)


@pytest.mark.parametrize("local", ["c402cdd63bcb", "ffeeddccbbaa", "0123456789ab", "deadbeefcafe"])
def test_addresses_and_numbers_do_not_decide_what_the_letters_are(
    local: str, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    rows = [f"{n or ''}ann@{local}.example;Muñoz;0{n + 1}/02/2026" for n in range(3)]
    path.write_bytes("\r\n".join(["E-Mail;Nachname;Date", *rows, ""]).encode("cp1252"))
    assert encodings_of(path) == ["cp1252", "cp1250"]
