"""The texts of mails in the playbook: their variables, and what is wrong with a text."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment

from services.shared.playbook.contradiction import did_you_mean

VARIABLES = ("first_name", "link")
NAMES = ("Ada", "there")  # of a reader whose name is known, and of one whose is not
LINK = "https://link.example/l/sample"
MEND = "In a mail there are {{ first_name }} and {{ link }}"
_templates = SandboxedEnvironment(autoescape=False)


class TextProblem(NamedTuple):
    """What is wrong in a text, how to mend it, and in which of its lines from 1."""

    what: str
    remedy: str
    line: int = 1


@lru_cache(1024)
def _compiled(text: str) -> Template:
    return _templates.from_string(text)


def filled_in(text: str, first_name: str, link: str) -> str:
    """The text with its variables. Raises jinja2's TemplateError."""
    return _compiled(text).render(first_name=first_name, link=link)


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
            yield TextProblem(f"it cannot be rendered: {_reason(error)}", MEND)
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
    if not broken and "link" in meta.find_undeclared_variables(_templates.parse(text)):
        yield TextProblem("{{ link }} in a subject", "Put it into the body")
    if not text.strip():
        yield TextProblem("an empty subject", "Write one of up to sixty characters")


def _problems(text: str) -> Iterable[TextProblem]:
    """Yields what cannot be read, and variables that are not known."""
    try:
        tree = _templates.parse(text)
        _compiled(text)
    except TemplateSyntaxError as error:
        yield TextProblem(f"not readable: {error.message}", MEND, error.lineno)
        return
    except TemplateError as error:
        yield TextProblem(f"not readable: {error.message}", MEND)
        return
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
