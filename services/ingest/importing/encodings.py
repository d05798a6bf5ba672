"""The encoding of a table: by its byte order mark, as UTF-8 where that is valid, else by a language
model over samples of the whole file; every reading that is as plausible is named.
"""

import codecs
import re
from collections import Counter
from math import exp
from pathlib import Path
from typing import NamedTuple

import chardet

from services.ingest.importing.spelling import is_odd, words

START = 64 * 1024  # bytes that are looked at for UTF-16
BLOCK = 1 << 20  # bytes
SAMPLE = 256 * 1024  # bytes that the language model gets
ENOUGH = 400  # lines with the same byte; more of them say nothing new
MAX_LINE = 4096  # bytes of a line in the sample
MAX_SHOWN = 3  # readings
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE,
    "utf-16"),
)  # fmt: skip
# what office programs, mail programs and databases write, by how often; how much less often counts
OFTEN = dict.fromkeys((
    "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258",
    "cp874", "cp932", "cp949", "gb18030", "big5hkscs",
), 1.0)  # fmt: skip
SELDOM = dict.fromkeys((
    "koi8-r", "koi8-u", "mac-roman", "mac-latin2", "mac-cyrillic", "mac-greek",
    "mac-turkish", "cp850", "cp852", "cp866", "iso8859-2", "euc_jis_2004",
), 0.9)  # fmt: skip
PRIORS = {"cp1252": 1.1} | OFTEN | SELDOM
# 7-bit text with escapes, ASCII to whoever does not know them: Japanese, Korean
ESCAPED = (
    (re.compile(rb"\x1b\$[B@]"), "iso2022_jp_ext"),
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"),
)
# EUC-JP and gb18030 have their characters in the same places, frequent ones to 0xCF and to 0xD7:
# log odds of EUC-JP for a character up to there, of one behind, and of a kana
EAST_PAIRS = re.compile(
    rb"([\xa4\xa5])[\xa1-\xfe]|([\xb0-\xcf])[\xa1-\xfe]|([\xd0-\xf7])[\xa1-\xfe]"
)
KANA, FREQUENT, SELDOM_ONE = 1.0, 0.3, -2.2
UNSURE = 5.0  # log odds up to which either may be
ODDS_WEIGH, MOST_SURE = 1 / 16, 3.0
CONTEXT = 0.6
# a reading is as plausible as the best one where it comes so near, nearer the more words tell them
# apart
NEAR, NEAR_PER_WORD = 1.06, 0.5
CELL = re.compile(rb"[,;\t\r\n]+")  # no byte of these is part of a character of two
NO_LANGUAGE = re.compile(rb"[0-9@]")  # addresses, numbers, times: their letters are of no language
DAMAGE = 0.01  # part of UTF-8's characters that may be damaged


class Reading(NamedTuple):
    """A reading of the sample: its words, and how good it is."""

    encoding: str
    words: frozenset[str]
    text: str
    score: float


def encodings_of(path: Path) -> list[str]:
    """The plausible encodings, the likeliest first; one where there is no doubt."""
    with path.open("rb") as file:
        start = file.read(START)
    if found := _marked(start) or _without_mark(start) or _escaped(path):
        return [found]
    sample = _sample(path)
    if not sample:
        return ["utf-8"]
    readings = plausible(sample)
    whole = [reading.encoding for reading in readings if _is_valid(path, reading.encoding)]
    return whole[:MAX_SHOWN] or [reading.encoding for reading in readings[:1]] or ["cp1252"]


def plausible(sample: bytes) -> list[Reading]:
    """The readings of a sample that are as plausible as the best one, best first."""
    readings = _readings(sample)
    return [
        reading
        for number, reading in enumerate(readings)
        if not number or _is_near(reading, readings[0])
    ]


def _is_near(reading: Reading, best: Reading) -> bool:
    apart = len(best.words - reading.words)
    return reading.score * (NEAR + NEAR_PER_WORD / max(apart, 1)) >= best.score


def _readings(sample: bytes) -> list[Reading]:
    """Every different text that the sample may be, best first."""
    cells = dict.fromkeys(CELL.split(sample))
    beyond = b"\n".join(cell for cell in cells if not cell.isascii())
    around = b"\n".join(
        cell for cell in cells if not cell.isascii() or not NO_LANGUAGE.search(cell)
    )
    context, alone = _confidences(around), _confidences(beyond)
    found: dict[str, Reading] = {}
    for encoding, prior in PRIORS.items():
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        spelt = words(text)
        sound = 1 - sum(map(is_odd, spelt)) / max(len(spelt), 1)
        near = context.get(encoding, 0) ** CONTEXT * alone.get(encoding, 0) ** (1 - CONTEXT)
        score = prior * sound**4 * near
        same = found.get(text)
        if same:  # under the name of the more frequent encoding
            encoding, score = same.encoding, max(score, same.score)
        found[text] = Reading(encoding, frozenset(spelt), text, score)
    _weigh_japanese(found, beyond)
    return sorted(found.values(), key=lambda reading: -reading.score)


def _weigh_japanese(found: dict[str, Reading], sample: bytes) -> None:
    """Sets EUC-JP and gb18030 apart by where their characters stand; language models do not."""
    pair = {
        r.encoding: text for text, r in found.items() if r.encoding in ("euc_jis_2004", "gb18030")
    }
    if len(pair) < 2:
        return
    pairs = EAST_PAIRS.findall(sample)
    kana, frequent, seldom = (sum(1 for place in pairs if place[i]) for i in range(3))
    odds = KANA * kana + FREQUENT * frequent + SELDOM_ONE * seldom
    sure = min(max(abs(odds) - UNSURE, 0) * ODDS_WEIGH, MOST_SURE)
    other = pair["gb18030" if odds > 0 else "euc_jis_2004"]
    best = max(found[text].score for text in pair.values())
    for text in pair.values():
        found[text] = found[text]._replace(score=best * (exp(-sure) if text == other else 1))


def _confidences(sample: bytes) -> dict[str, float]:
    """How well the language models like each encoding of the sample."""
    matches = chardet.detect_all(
        sample,
        ignore_threshold=True,
        include_encodings=PRIORS,
        compat_names=False,
        max_bytes=max(len(sample), 1),
    )
    return {match["encoding"]: match["confidence"] for match in matches if match["encoding"]}


def _marked(start: bytes) -> str:
    return next((name for mark, name in BOMS if start.startswith(mark)), "")


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


def _escaped(path: Path) -> str:
    """The encoding of a file without a byte beyond ASCII that changes its characters by escapes;
    "" of another.
    """
    found, end = "", b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            if not block.isascii():
                return ""
            around = end + block
            found = found or next((name for mark, name in ESCAPED if mark.search(around)), "")
            end = block[-3:]
    return found if found and _is_valid(path, found) else ""


def _sample(path: Path) -> bytes:
    """What tells encodings apart: the whole file where it is small, else lines of all its parts
    with bytes beyond ASCII, of each such byte enough; b"" where the file is UTF-8, perhaps damaged.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    damaged = sound = 0
    lines = _Lines()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            text = decoder.decode(block)
            bad = text.count("\N{REPLACEMENT CHARACTER}")
            damaged += bad
            sound += max(len(block) - len(text), 0)
            lines.add(block)
        damaged += len(decoder.decode(b"", final=True))
        if damaged <= DAMAGE * sound:
            return b""
        file.seek(0)
        return file.read() if path.stat().st_size <= SAMPLE else lines.sample()


class _Lines:
    """Lines with bytes beyond ASCII: of each such byte enough, wherever in the file they stand."""

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self._kept: list[bytes] = []
        self._size = 0

    def add(self, block: bytes) -> None:
        """Takes what is new of a block; lines that its ends cut are left out."""
        if block.isascii() or self._size >= SAMPLE:
            return
        for line in re.split(rb"[\r\n]+", block)[1:-1] or [block[:MAX_LINE]]:
            if line.isascii() or len(line) > MAX_LINE:
                continue
            beyond = {byte for byte in line if byte > 0x7F}
            if any(self._seen[byte] < ENOUGH for byte in beyond):
                self._seen.update(beyond)
                self._kept.append(line)
                self._size += len(line)

    def sample(self) -> bytes:
        return b"\n".join(self._kept)


def _is_valid(path: Path, encoding: str) -> bool:
    """Whether the file is text of this encoding from its beginning to its end."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
