"""JMESPath expressions of the playbook, compiled once, and the functions that they may call beside
JMESPath's own.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature

from services.shared.clock import rfc3339
from services.shared.errors import Reject

MAX_SECONDS = 100_000_000_000  # a larger number (beyond the year 5138) is in milliseconds
WORD = re.compile(r"[^\W_]+")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# what an expression raises on data of another shape
FAILURES = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)


def snake(name: str) -> str:
    """A name in snake case: "Job title" and "jobTitle" are `job_title`; one without letters stays
    as it is.
    """
    return "_".join(WORD.findall(HUMP.sub(" ", name))).lower() or name


def datetime_of(given: str | float) -> datetime:
    """A time in seconds or milliseconds since 1970, or in ISO 8601 (without a zone: UTC). Raises
    ValueError.
    """
    if isinstance(given, str):
        try:
            given = float(given)
        except ValueError:
            time = datetime.fromisoformat(str(given).strip())
            return time if time.tzinfo else time.replace(tzinfo=UTC)
    try:
        return datetime.fromtimestamp(given / 1000 if abs(given) > MAX_SECONDS else given, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("a time out of range") from error


def names_in(expression: str) -> frozenset[str]:
    """The names of all fields that an expression mentions; none of one that cannot be read."""
    try:
        nodes = [jmespath.compile(expression).parsed]
    except JMESPathError:
        return frozenset()
    names = set()
    while nodes:
        node = nodes.pop()
        nodes += node.get("children", ())
        if node["type"] == "field":
            names.add(node["value"])
    return frozenset(names)


class RequestFunctions(Functions):
    """What expressions may call: a request's `body()`, a `header()`, a parameter of its `query()`;
    and conversions of text.
    """

    def __init__(
        self,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        self._body, self._headers, self._query = body, headers or {}, query or {}

    @signature()
    def _func_body(self) -> Any:
        return self._body

    @signature({"types": ["string"]})
    def _func_header(self, name: str) -> str | None:
        return self._headers.get(name.lower())

    @signature({"types": ["string"]})
    def _func_query(self, name: str) -> str | None:
        return self._query.get(name)

    @signature({"types": ["string", "number", "null"]})
    def _func_time(self, given: str | float | None) -> str | None:
        return None if given in (None, "") else rfc3339(datetime_of(given))

    @signature({"types": ["string", "null"]})
    def _func_snake(self, name: str | None) -> str | None:
        return name and snake(name)

    @signature({"types": ["string", "null"]})
    def _func_lower(self, text: str | None) -> str | None:
        return text and text.lower()

    @signature({"types": ["string", "null"]})
    def _func_first_word(self, text: str | None) -> str | None:
        return (text or "").strip().partition(" ")[0] or None

    @signature({"types": ["string", "null"]})
    def _func_other_words(self, text: str | None) -> str | None:
        return (text or "").strip().partition(" ")[2].strip() or None

    @signature({"types": ["array", "null"]}, {"types": ["string"]}, {"types": ["string"]})
    def _func_named(self, pairs: list[Any] | None, name: str, value: str) -> dict[str, Any]:
        """One object from a list of objects that hold a name and a value each, as forms send their
        questions and answers.
        """
        named = (
            pair
            for pair in pairs or ()
            if isinstance(pair, dict) and isinstance(pair.get(name), str)
        )
        return {snake(pair[name]): pair.get(value) for pair in named}

    @signature({"types": ["object"]}, {"types": ["array-string"]})
    def _func_without(self, given: dict[str, Any], names: list[str]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name not in names}


class ChallengeFunctions(RequestFunctions):
    """What expressions of a challenge may call in addition: `hmac()` (SHA-256, hex) under the
    secret shared with the sender.

    Where the challenge itself is not signed, only a plain token is signed for it: with anything
    else a stranger would get signatures of events that he made up.
    """

    TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")

    def __init__(
        self,
        secret: str,
        signed: bool,
        body: Any,
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> None:
        super().__init__(body, headers, query)
        self._secret, self._signed = secret, signed

    @signature({"types": ["string"]})
    def _func_hmac(self, text: str) -> str:
        if not self._signed and not self.TOKEN.fullmatch(text):
            raise ValueError("an unsigned call may ask to sign a plain token only")
        return hmac.new(self._secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Expression:
    """A compiled expression; `where` is the pointer that a Reject names. Raises JMESPathError where
    the text is no expression.
    """

    def __init__(self, text: str, where: str) -> None:
        self._search: Callable[..., Any] = jmespath.compile(text).search
        self._where = where

    def __call__(self, value: Any, functions: RequestFunctions) -> Any:
        """What the expression finds in a value. Raises Reject where it fails on it."""
        try:
            return self._search(value, options=jmespath.Options(custom_functions=functions))
        except FAILURES as error:
            title = (
                "the expression failed: "
                f"{str(error).partition(chr(10))[0][:200] or type(error).__name__}"
            )
            raise Reject(
                title, where=self._where, remedy="compare the request with the sender's mapping"
            ) from None


def expression_error(text: str, functions: type[RequestFunctions] = RequestFunctions) -> str:
    """What is wrong with an expression, whatever the data; '' where nothing is."""
    try:
        tree = jmespath.compile(text).parsed
    except JMESPathError as error:
        return f"no JMESPath expression: {str(error).partition(chr(10))[0].rstrip(':')}"
    return next(filter(None, (_misused(call, functions) for call in _calls(tree))), "")


def _misused(call: dict[str, Any], functions: type[RequestFunctions]) -> str:
    name, given = call["value"], len(call["children"])
    known = functions.FUNCTION_TABLE.get(name)
    if known is None:
        return f"no function {name}()"
    wanted = known["signature"]
    variadic = bool(wanted) and wanted[-1].get("variadic", False)
    right = given >= len(wanted) if variadic else given == len(wanted)
    return (
        ""
        if right
        else f"{name}() takes {len(wanted)}{' or more' if variadic else ''}, not {given}"
    )


def _calls(node: Any) -> Iterable[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "function_expression":
            yield node
        for child in node.get("children", ()):
            yield from _calls(child)
