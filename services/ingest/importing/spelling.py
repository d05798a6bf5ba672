"""Whether decoded words are spelt as words are: one script, no symbol inside, no capital after a
small letter. What another encoding makes of them seldom is. Pure.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

# runs of letters of every script with the hyphens and apostrophes between them
WORD = re.compile(r"[^\x00-\x26\x28-\x2c\x2e-\x40\x5b-\x60\x7b-\x7f\s]+")
EAST_ASIAN = frozenset({
    "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "HALFWIDTH", "BOPOMOFO", "IDEOGRAPHIC",
})  # fmt: skip
EAST = "east"
# a Hangul syllable beside a Chinese character: what Korean code pages make of other text
BESIDE_HANGUL = re.compile(r"[\uac00-\ud7a3][\u4e00-\u9fff]|[\u4e00-\u9fff][\uac00-\ud7a3]")
MARKS = "®™©"  # stand at the end of names
JOINING = "-'’‐–—·・〜／（）()．，、。「」『』＆\u3000\xa0"  # noqa: RUF001 they stand between letters
OPENING = "Ps"


def words(text: str) -> list[str]:
    """The different words with a letter beyond ASCII."""
    return [word for word in dict.fromkeys(WORD.findall(text)) if not word.isascii()]


@lru_cache(maxsize=1 << 14)
def is_odd(word: str) -> bool:
    """Whether no language spells a word so."""
    word = word.strip("'-")
    kinds = [_kind(char) for char in word]
    letters = [kind for kind in kinds if kind[0] not in ("symbol", "mark", "other")]
    symbols = sum(kind[0] == "symbol" for kind in kinds)
    if not letters:
        return symbols > 1
    scripts = {script for script, _ in letters}
    if symbols or (len(scripts) > 1 and scripts != {"LATIN", EAST}):
        return True
    if EAST in scripts and BESIDE_HANGUL.search(word):
        return True
    return _has_odd_case(kinds) or _has_odd_mark(word, kinds)


def _has_odd_case(kinds: Sequence[tuple[str, str]]) -> bool:
    for (script, case), (next_script, next_case) in pairwise(kinds):
        if case == "l" and next_case == "u":
            return True
        small_beside_east = (case == "l" and next_script == EAST) or (
            script == EAST and next_case == "l"
        )
        if small_beside_east and "LATIN" in (script, next_script):
            return True
    cases = [case for _, case in kinds]
    return len(cases) > 2 and cases[:2] == ["u", "u"] and cases[-1] == "l"


def _has_odd_mark(word: str, kinds: Sequence[tuple[str, str]]) -> bool:
    """Quotation marks and brackets inside a word, and accents without a letter."""
    around = [("other", ""), *kinds, ("other", "")]
    for number, char in enumerate(word):
        before, (script, _), after = around[number : number + 3]
        if script == "mark" and before[0] == "other":
            return True
        if script == "other" and before[1] and char not in JOINING:
            east = before[0] == EAST
            if after[1] or (unicodedata.category(char) == OPENING and not east):
                return True
    return False


@lru_cache(maxsize=1 << 12)
def _kind(char: str) -> tuple[str, str]:
    """(script, case) of a letter: `u`, `l`, or `o` where it has none; else (kind, "")."""
    category = unicodedata.category(char)
    if category[0] == "L" and char not in "ªº":
        script = unicodedata.name(char, "?").partition(" ")[0].partition("-")[0]
        return EAST if script in EAST_ASIAN else script, category[1]
    if category[0] == "M":
        return "mark", ""
    is_other = category[0] in "PZ" or char in MARKS
    return "other" if is_other else "symbol", ""
