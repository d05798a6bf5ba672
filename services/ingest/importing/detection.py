"""Detects the encoding and the delimiter of a table."""

import codecs
import csv
from pathlib import Path

from charset_normalizer import from_bytes

SAMPLE = 64 * 1024  # bytes or characters that are looked at
BLOCK = 1 << 20  # bytes
DELIMITERS = ",;\t|"
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE,
    "utf-16"),
)  # fmt: skip
WESTERN = "cp1252"
OFFICE = (
    WESTERN,
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1257",
    "mac_roman",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_kr",
)


def encoding_of(path: Path) -> str:
    """The encoding: by its byte order mark, else UTF-8 where all is valid, else the likeliest."""
    with path.open("rb") as file:
        start = file.read(SAMPLE)
        for mark, name in BOMS:
            if start.startswith(mark):
                return name
        if wide := _without_mark(start):
            return wide
        file.seek(0)
        decoder, odd = codecs.getincrementaldecoder("utf-8")(), bytearray()
        while block := file.read(BLOCK):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                odd += b"\n".join(line for line in block.split(b"\n") if not line.isascii())[
                    :SAMPLE
                ]
                break
        else:
            try:
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                odd += start[-4096:]
    return _likeliest(bytes(odd)) if odd else "utf-8"


def delimiter_of(sample: str) -> str:
    """The delimiter under which most lines have as many cells as the first, and most cells."""
    lines = sample.splitlines()[:200]
    lines = lines[:-1] if len(sample) >= SAMPLE and len(lines) > 1 else lines
    best, found = (0, 0), ","
    for delimiter in DELIMITERS:
        counts = (
            [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells]
            if _readable(lines, delimiter)
            else []
        )
        if counts and counts[0] > 1:
            rank = (sum(count == counts[0] for count in counts) * 100 // len(counts), counts[0])
            best, found = (rank, delimiter) if rank > best else (best, found)
    return found


def _readable(lines: list[str], delimiter: str) -> bool:
    try:
        for _ in csv.reader(lines, delimiter=delimiter):
            pass
    except csv.Error:
        return False
    return True


def _without_mark(start: bytes) -> str:
    """UTF-16 without its mark: every other byte of plain text is nil; '' for another encoding."""
    half = len(start) // 2
    if half and start[1::2].count(0) > 0.4 * half and start[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    return (
        "utf-16-be"
        if half and start[::2].count(0) > 0.4 * half and start[1::2].count(0) < 0.1 * half
        else ""
    )


def _likeliest(sample: bytes) -> str:
    """Windows' Western encoding where it makes as good a text as any, for Excel writes it mostly;
    else the best guess.
    """
    matches = from_bytes(sample, cp_isolation=list(OFFICE))
    best = matches.best()
    good = [match for match in matches if best and match.chaos <= best.chaos]
    return (
        best.encoding
        if best and not any(WESTERN in match.could_be_from_charset for match in good)
        else WESTERN
    )
