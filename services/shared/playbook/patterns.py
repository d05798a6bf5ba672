"""Expressions of the playbook that are searched for in texts of strangers, in time linear in the
text (RE2).
"""

import re
from typing import NamedTuple

import re2

# RE2's `\b` knows the letters A to Z alone, so that none stands beside any other
BESIDE_BOUNDARY = re.compile(r"\\b[^\x00-\x7f]|[^\x00-\x7f]\\b")
LOOK_AROUND = ("(?=", "(?!", "(?<=", "(?<!")


class PatternProblem(NamedTuple):
    """What is wrong with an expression, and how to mend it."""

    what: str
    remedy: str


class Pattern:
    """An expression that is found anywhere in a text, whatever its case; what `ignoring` finds is
    passed over. Raises re2.error.
    """

    def __init__(self, matches: str, ignoring: str = "") -> None:
        self._matches = _compiled(matches)
        self._ignoring = _compiled(ignoring) if ignoring else None

    def is_in(self, text: str) -> bool:
        """Whether the text has it."""
        if self._ignoring is not None:
            text = self._ignoring.sub(" ", text)
        return self._matches.search(text) is not None


def pattern_problem(text: str) -> PatternProblem | None:
    """What is wrong with an expression; None where nothing is."""
    if found := BESIDE_BOUNDARY.search(text):
        return PatternProblem(
            f"`{found[0]}`: \\b ends a word of the letters A to Z alone",
            r"Write (^|[^\pL]) before the letter, ($|[^\pL]) behind it",
        )
    try:
        _compiled(text)
    except re2.error as error:
        return _named(text, error.args[0].decode())
    return None


def _named(text: str, reason: str) -> PatternProblem:
    """The problem behind RE2's reason, such as `invalid perl operator: (?<`."""
    what, _, piece = reason.partition(": ")
    if what == "invalid perl operator" and (
        seen := next((each for each in LOOK_AROUND if each.startswith(piece) and each in text), "")
    ):
        return PatternProblem(
            f"looks around by `{seen}`, which is not searched for in linear time",
            "Take it out, and name under `ignoring` what is not to count",
        )
    if what == "invalid escape sequence" and piece[1:].isdigit():
        return PatternProblem(
            f"refers back by `{piece}`, which is not searched for in linear time",
            "Write out what is repeated",
        )
    if what == "invalid repetition size" or "too large" in what:
        return PatternProblem(f"too large an expression: {piece}", "Repeat at most 1000 times")
    return PatternProblem(
        f"no regular expression: {reason}", "Mend the expression; its syntax is that of RE2"
    )


def _compiled(text: str) -> "re2._Regexp[str]":
    options = re2.Options()
    options.case_sensitive, options.log_errors = False, False
    return re2.compile(text, options)
