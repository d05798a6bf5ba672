"""Every pattern of the product, and texts over which a pattern would take its longest, made of its
own characters.
"""

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import services

SEARCHING = ("search", "finditer", "findall", "sub", "subn", "split")
ANCHORED = ("match", "fullmatch")
SAMPLES = "a1! \n\tZ_-.,:;@<>\"'()[]{}=/&%!?#\\é\0"
LENGTHS = (20, 100, 500, 2_500, 12_500)
FAST_S, NOISE_S = 0.004, 0.006  # of CPU; a quadratic pattern needs 0.1 and more for the longest
QUICK_S = 0.0008  # ... and more than this for the longest but one
RATIO = 10  # of five times the length; linear time has 5, quadratic 25


class Used(NamedTuple):
    """A pattern, where it stands, and how it is applied."""

    where: str
    pattern: re.Pattern[Any]
    method: str


def used_patterns() -> list[Used]:
    """All that modules of services hold, and all that stand in their calls of `re`. The command
    line reads what its own user writes.
    """
    found: dict[tuple[Any, int, str], Used] = {}
    for info in pkgutil.walk_packages(services.__path__, "services."):
        if info.name.endswith("__main__") or info.name.startswith("services.ops"):
            continue
        module = importlib.import_module(info.name)
        source = Path(str(module.__file__)).read_text()
        held = (
            Used(f"{info.name}.{name}", pattern, method)
            for name, value in vars(module).items()
            for pattern in _inside(value)
            for method in _methods(source, name if value is pattern else r"[a-z]\w*")
        )
        for used in (*held, *_inline(info.name, source)):
            found.setdefault((used.pattern.pattern, used.pattern.flags, used.method), used)
    return list(found.values())


def _inside(value: Any, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 3 and isinstance(value, dict):
        for inner in value.values():
            yield from _inside(inner, depth + 1)
    elif depth < 3 and isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _inside(inner, depth + 1)
    elif depth == 0 and isinstance(value, type) and value.__module__.startswith("services."):
        for inner in vars(value).values():
            yield from _inside(inner, 3)


def _methods(source: str, name: str) -> set[str]:
    """How a module applies what it names so; by search where that does not show."""
    found = set(re.findall(rf"\b{name}\.([a-z]+)\b", source))
    anchored = found & set(ANCHORED)
    return anchored if anchored and not found & set(SEARCHING) else anchored | {"finditer"}


def _inline(module: str, source: str) -> Iterator[Used]:
    for call in ast.walk(ast.parse(source)):
        if not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == "re"
            and call.func.attr in (*SEARCHING, *ANCHORED)
            and isinstance(call.args[0], ast.Constant)
        ):
            continue
        names = {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
        flags = re.RegexFlag(0)
        for name in names & {"I", "M", "S", "IGNORECASE", "MULTILINE", "DOTALL"}:
            flags |= re.RegexFlag[name]
        method = call.func.attr if call.func.attr in ANCHORED else "finditer"
        text: Any = call.args[0].value
        yield Used(f"{module}:{call.lineno}", re.compile(text, flags), method)


class Attack(NamedTuple):
    """A text: a beginning, a part that is repeated, and an end."""

    before: str
    unit: str
    after: str

    def text(self, length: int) -> str:
        """The text with some `length` characters repeated."""
        return self.before + self.unit * max(length // len(self.unit), 1) + self.after


def attacks(pattern: re.Pattern[Any], *, deep: bool = False) -> set[Attack]:
    """Texts from a pattern: its own characters, the examples of its repeated parts and of its
    beginnings, behind what leads to them.
    """
    source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else (
        pattern.pattern
    )  # fmt: skip
    tree = parser.parse(source, pattern.flags & ~re.DEBUG)
    whole = _example(tree)
    letters = ["a", *sorted(_letters(tree) - {"a"})[:11]]
    units = {*letters, *_repeated(tree), *(whole[:n] for n in range(1, min(len(whole), 12) + 1))}
    if deep:
        units |= {one + other for one in letters for other in letters}
    befores = {"", *_beginnings(tree)} if deep else {"", whole[: len(whole) // 2]}
    return {
        Attack(before, unit, after)
        for before in befores
        for unit in units - {""}
        for after in ("", "\0")
    }


def is_linear(used: Used, attack: Attack) -> bool:
    """Whether the time for the attack's text grows no faster than its length."""
    before = 0.0
    for length in LENGTHS:
        text: Any = attack.text(length)
        if isinstance(used.pattern.pattern, bytes):
            text = text.encode("utf-8", "replace")
        took = _seconds(used, text)
        if took > FAST_S:
            took = min(took, _seconds(used, text), _seconds(used, text))
        if took > max(FAST_S, RATIO * before + NOISE_S):
            return False
        if length == LENGTHS[-2] and took < QUICK_S:
            return True
        before = took
    return True


def _seconds(used: Used, text: Any) -> float:
    began = time.process_time()
    if used.method in ANCHORED:
        getattr(used.pattern, used.method)(text)
    else:
        for _ in used.pattern.finditer(text):
            pass
    return time.process_time() - began


# -- a pattern's own characters -------------------------------------------------------------------

CATEGORIES = {
    op.CATEGORY_DIGIT: "1", op.CATEGORY_NOT_DIGIT: "a", op.CATEGORY_SPACE: " ",
    op.CATEGORY_NOT_SPACE: "a", op.CATEGORY_WORD: "a", op.CATEGORY_NOT_WORD: "!",
}  # fmt: skip
REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)


def _parts(operand: Any) -> Iterable[Any]:
    """The patterns within an operand."""
    if isinstance(operand, parser.SubPattern):
        yield operand
    elif isinstance(operand, list | tuple):
        for inner in operand:
            yield from _parts(inner)


def _of_class(members: list[Any]) -> list[str]:
    """Characters of a class: some of each member, or of what it leaves out."""
    named = [letter for member in members for letter in _of_member(member)]
    if members[0][0] is not op.NEGATE:
        return named
    return [letter for letter in SAMPLES if letter not in named][:4]


def _of_member(member: Any) -> list[str]:
    kind, value = member
    if kind is op.LITERAL:
        return [chr(value)]
    if kind is op.RANGE:
        return [chr(value[0]), chr(value[1])]
    return [CATEGORIES[value]] if kind is op.CATEGORY else []


def _example(tree: Any) -> str:
    """A short text that the pattern matches, but for what it looks around at."""
    text = ""
    for kind, operand in tree:
        if kind is op.LITERAL:
            text += chr(operand)
        elif kind in (op.ANY, op.NOT_LITERAL):
            text += "a" if operand != ord("a") else "b"
        elif kind is op.IN:
            text += (_of_class(operand) or ["a"])[0]
        elif kind is op.BRANCH:
            text += _example(operand[1][0])
        elif kind is op.SUBPATTERN:
            text += _example(operand[3])
        elif kind is op.ATOMIC_GROUP:
            text += _example(operand)
        elif kind in REPEATS:
            text += _example(operand[2]) * max(operand[0], 1)
    return text


def _letters(tree: Any) -> set[str]:
    """The characters that it names, and one of each class."""
    found: set[str] = {" ", "\n", "a"}
    for kind, operand in tree:
        if kind is op.LITERAL:
            found.add(chr(operand))
        elif kind is op.IN:
            found.update(_of_class(operand)[:4])
        for inner in _parts(operand):
            found |= _letters(inner)
    return found


def _repeated(tree: Any) -> set[str]:
    """An example of every part that is repeated, of every alternative, and of both together with
    what follows.
    """
    found: set[str] = set()
    items = list(tree)
    for number, (kind, operand) in enumerate(items):
        for inner in _parts(operand):
            found |= {_example(inner), *_repeated(inner)}
        if kind in REPEATS:
            found.add(_example([items[number], *items[number + 1 : number + 2]]))
    return found


def _beginnings(tree: Any) -> set[str]:
    """Examples of what comes before each of its parts."""
    items, found = list(tree), set[str]()
    for number, (_, operand) in enumerate(items):
        head = _example(items[:number])
        found |= {head, *(head + inner for part in _parts(operand) for inner in _beginnings(part))}
    return set(sorted(found, key=len)[:3])
