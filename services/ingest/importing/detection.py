"""Detects the delimiter of a table, and the line that holds the names of its columns. Pure."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress

SAMPLE = 64 * 1024  # characters that are looked at
LINES = 200
DELIMITERS = ",;\t|"
MOST = 50  # percent of the records that have as many cells as a table's


def delimiter_of(sample: str) -> str:
    """The delimiter under which most lines have as many cells as each other, and most cells; one
    under which the first line is the header before others.
    """
    best, found = (False, 0, 0), ","
    for delimiter in DELIMITERS:
        widths = [width for _, width in records(sample, delimiter)]
        if not (width := _usual(widths)):
            continue
        share = sum(count == width for count in widths) * 100 // len(widths)
        rank = (share >= MOST and widths[0] >= width, share, width)
        best, found = (rank, delimiter) if rank > best else (best, found)
    return found


def records(sample: str, delimiter: str) -> list[tuple[int, int]]:
    """(line, number of cells) of the records at the beginning of a table; none where they cannot be
    read under this delimiter.
    """
    lines = sample.splitlines()[:LINES]
    lines = lines[:-1] if len(sample) >= SAMPLE and len(lines) > 1 else lines
    reader, line = csv.reader(lines, delimiter=delimiter), 1
    found: list[tuple[int, int]] = []
    with suppress(csv.Error):
        for cells in reader:
            if any(map(str.strip, cells)):
                found.append((line, len(cells)))
            line = reader.line_num + 1
        return found
    return []


def preamble(widths: Iterable[tuple[int, int]]) -> int:
    """How many lines stand before the header: those before the first record that is as wide as the
    rows are, where they have half as many cells at most; 0 for none.

    `widths` are (line, number of cells) of the first records, empty ones left out.
    """
    found = list(widths)
    usual = _usual([width for _, width in found])
    for number, (line, width) in enumerate(found):
        if usual and width >= usual:
            return line - 1 if number else 0
        if 2 * width > usual:
            return 0
    return 0


def _usual(widths: Sequence[int]) -> int:
    """The number of cells, above one, that most records have; 0 for none."""
    wide = Counter(width for width in widths if width > 1)
    return max(wide, key=lambda width: (wide[width], width), default=0)
