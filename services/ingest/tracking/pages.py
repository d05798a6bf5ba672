"""The few pages that people see: thanks for a form, the way out of our mails, and their
preferences. They load nothing.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from services.ingest.tracking import preferences
from services.ingest.tracking.preferences import USUAL, Said
from services.shared.contracts.preferences import PACE, PAUSED_UNTIL, TOPICS
from services.shared.errors import Kind, Reject
from services.shared.http.problems import STATUS
from services.shared.playbook.sections import Playbook

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PACES = {
    USUAL: "As usual",
    "weekly": "At most one mail a week",
    "monthly": "At most one mail a month",
}


class Pages:
    """Knows the company's name and the topics of its library; `ways` are the tokens (leave,
    preferences) of a person.
    """

    def __init__(self, playbook: Playbook) -> None:
        self._company, self._topics = playbook.company, preferences.topics_of(playbook)
        folder = FileSystemLoader(Path(__file__).parent / "templates")
        self._templates = Environment(
            loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.filters |= {"plain": plain, "day": day}

    def thanks(self) -> HTMLResponse:
        """After a form that names no page of its own."""
        return self._page("thanks.html")

    def leave(self, ways: tuple[str, str]) -> HTMLResponse:
        """Asks whether to unsubscribe; a mail scanner that opens it changes nothing."""
        return self._page("leave.html", ways=ways)

    def left(self, ways: tuple[str, str]) -> HTMLResponse:
        """After it, with the way back."""
        return self._page("left.html", ways=ways)

    def preferences(
        self, ways: tuple[str, str], *, said: Said | None = None, back: bool = False
    ) -> HTMLResponse:
        """The page of preferences; `said` is what was saved just now, `back` that the person came
        back.
        """
        return self._page(
            "preferences.html", ways=ways, **self._choices(said or {}), back=back, wrong=None
        )

    def mistaken(self, ways: tuple[str, str], wrong: Reject) -> HTMLResponse:
        """The same, after a form that could not be read."""
        return self._page(
            "preferences.html", wrong.kind, ways=ways, **self._choices({}), back=False, wrong=wrong
        )

    def broken(self, wrong: Reject) -> HTMLResponse:
        """Where a person stands before a link that leads nowhere, or comes at a bad moment."""
        return self._page("broken.html", wrong.kind, again=STATUS[wrong.kind] == 503)

    def _choices(self, said: Said) -> dict[str, Any]:
        return {
            "topics": self._topics, "paces": PACES, "pauses": list(preferences.MONTHS),
            "saved": bool(said),
            "chosen": said[TOPICS] or self._topics if TOPICS in said else (),
            "topics_said": TOPICS in said,
            "pace": (said[PACE] or USUAL) if PACE in said else "",
            "until": said.get(PAUSED_UNTIL),
            "pause_ended": PAUSED_UNTIL in said and not said[PAUSED_UNTIL],
        }  # fmt: skip

    def _page(self, name: str, problem: Kind | None = None, **values: Any) -> HTMLResponse:
        text = self._templates.get_template(name).render(company=self._company, **values)
        status = STATUS[problem] if problem else 200
        return HTMLResponse(text, status, HEADERS | ({"Retry-After": "5"} if status == 503 else {}))


def plain(topics: str | Sequence[str]) -> str:
    """Topics as people write them: Downtime; Downtime, Cost and Tools."""
    named = [
        topic.replace("_", " ").replace("-", " ").strip()
        for topic in ([topics] if isinstance(topics, str) else topics)
    ]
    named = [name[:1].upper() + name[1:] for name in named]
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else "".join(named)


def day(iso: str) -> str:
    """2030-01-31 as 31 January 2030."""
    when = date.fromisoformat(iso)
    return f"{when.day} {when:%B %Y}"
