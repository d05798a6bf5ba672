"""The texts of mails in the playbook: their variables, and what is wrong with a text."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.exceptions import UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.shared.playbook.contradiction import did_you_mean

VARIABLES = ("first_name", "link", "lead")
NAMES = ("Ada", "there")  # of a reader whose name is known, and of one whose is not
LINK = "https://link.example/l/sample"
MEND = "In a mail there are {{ first_name }}, {{ link }} and traits such as {{ lead.company }}"
LONGEST_VALUE = 60  # characters of a trait that are shown
# what stands in a name only where a robot had us send its advert to a stranger
NOT_A_NAME = re.compile(r"[/@:]|www\.", re.IGNORECASE)
LACKING = re.compile(r"has no attribute '(\w+)'")
_templates = ImmutableSandboxedEnvironment(autoescape=False, undefined=StrictUndefined)


class TextProblem(NamedTuple):
    """What is wrong in a text, how to mend it, and in which of its lines from 1."""

    what: str
    remedy: str
    line: int = 1


class LeadValues:
    """What a template may show of a lead: its traits as short texts. One that is absent, or no
    name, is undefined.
    """

    __slots__ = ("_traits",)

    def __init__(self, traits: Mapping[str, Any]) -> None:
        self._traits = traits

    def __getitem__(self, name: str) -> str:
        if shown := shown_value(self._traits.get(name)):
            return shown
        raise KeyError(name)


def shown_value(value: object) -> str:
    """A trait as a mail shows it, '' for what is no short text or number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    shown = " ".join(str(value).split())[:LONGEST_VALUE]
    return "" if NOT_A_NAME.search(shown) else shown


@lru_cache(1024)
def _compiled(text: str) -> Template:
    return _templates.from_string(text)


def filled_in(
    text: str, first_name: str, link: str, traits: Mapping[str, Any] | None = None
) -> str:
    """The text with its variables. Raises jinja2's TemplateError, also for a trait that the lead
    lacks.
    """
    return _compiled(text).render(first_name=first_name, link=link, lead=LeadValues(traits or {}))


def problems_of_body(text: str) -> Iterable[TextProblem]:
    """Yields what is wrong with a body: its variables, and its link, which stands in it once."""
    broken = list(_problems(text))
    yield from broken
    if broken:
        return
    for name in NAMES:
        try:
            filled = filled_in(text, name, LINK)
        except Exception as error:  # whatever the text calls
            yield unfilled(text, error)
            return
        count = filled.count(LINK)
        if not count:
            yield TextProblem("no {{ link }}", "Put {{ link }} on a line of its own")
        elif count > 1:
            line = _line_of_second_link(text)
            yield TextProblem(f"{{{{ link }}}} stands in it {count} times", "Keep one", line)
        elif LINK not in map(str.strip, filled.splitlines()):
            line = _line_of(text, "link")
            yield TextProblem("{{ link }} shares its line", "Give it a line of its own", line)
        else:
            continue
        return


def problems_of_subject(text: str) -> Iterable[TextProblem]:
    """Yields what is wrong with a subject, in which no link stands."""
    broken = list(_problems(text))
    yield from broken
    if not broken:
        yield from _unfillable(text)
    if not broken and "link" in meta.find_undeclared_variables(_templates.parse(text)):
        yield TextProblem("{{ link }} in a subject", "Put it into the body")
    if not text.strip():
        yield TextProblem("an empty subject", "Write one of up to sixty characters")


def _unfillable(text: str) -> Iterable[TextProblem]:
    for name in NAMES:
        try:
            filled_in(text, name, LINK)
        except Exception as error:  # whatever the text calls
            yield unfilled(text, error)
            return


def unfilled(text: str, error: Exception, mend: str = MEND) -> TextProblem:
    """The problem of a template that cannot be rendered for a lead of whom nothing is known."""
    if isinstance(error, UndefinedError) and (lacking := LACKING.search(str(error))):
        trait = lacking[1]
        return TextProblem(
            f"a lead without the trait {trait!r} has no value here",
            f"Say what stands there instead: {{{{ lead.{trait} | default('…') }}}}",
            _line_of(text, trait),
        )
    return TextProblem(f"it cannot be rendered: {_reason(error)}", mend)


def syntax_problem(compiled: Callable[[str], Template], text: str, mend: str) -> TextProblem | None:
    """Why a text is no template; None where it is one."""
    try:
        compiled(text)
    except TemplateError as error:
        line = error.lineno if isinstance(error, TemplateSyntaxError) else 1
        return TextProblem(f"not readable: {error.message}", mend, line)
    return None


def _problems(text: str) -> Iterable[TextProblem]:
    """Yields what cannot be read, and variables that are not known."""
    if unreadable := syntax_problem(_compiled, text, MEND):
        yield unreadable
        return
    tree = _templates.parse(text)
    for name in sorted(meta.find_undeclared_variables(tree) - {*VARIABLES}):
        yield TextProblem(
            f"no variable {name!r}", did_you_mean(name, VARIABLES) + MEND, _line_of(text, name)
        )


def _line_of(text: str, name: str) -> int:
    """The first line with a variable."""
    lines = text.splitlines()
    return next((n for n, line in enumerate(lines, 1) if "{" in line and name in line), 1)


def _line_of_second_link(text: str) -> int:
    found = [n for n, line in enumerate(text.splitlines(), 1) for _ in range(line.count("link }}"))]
    return found[1] if len(found) > 1 else _line_of(text, "link")


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
