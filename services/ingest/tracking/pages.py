"""The pages that people see: thanks for a form, unsubscribing, preferences. They load nothing."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from services.ingest.tracking import preferences
from services.ingest.tracking.preferences import Chosen
from services.ingest.tracking.tracker import MailTokens
from services.shared.contracts.preferences import PACE, PAUSED_UNTIL, TOPICS, USUAL
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
    """Knows the company's name and the topics of its library."""

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

    def unsubscribe(self, tokens: MailTokens) -> HTMLResponse:
        """Asks whether to unsubscribe; a mail scanner that opens it changes nothing."""
        return self._page("unsubscribe.html", tokens=tokens)

    def unsubscribed(self, tokens: MailTokens) -> HTMLResponse:
        """After it, with a button to subscribe again."""
        return self._page("unsubscribed.html", tokens=tokens)

    def preferences(
        self,
        tokens: MailTokens,
        *,
        chosen: Chosen | None = None,
        resubscribed: bool = False,
        measuring: str = "",
    ) -> HTMLResponse:
        """The page of preferences; `chosen` is what was saved just now, `measuring` whether clicks
        may be counted, given or withdrawn, `resubscribed` that the person came back.
        """
        shown = self._shown(chosen or {})
        return self._page(
            "preferences.html",
            tokens=tokens,
            **shown,
            resubscribed=resubscribed,
            measuring=measuring,
            wrong=None,
        )

    def preferences_refused(self, tokens: MailTokens, wrong: Reject) -> HTMLResponse:
        """The same, after a form that could not be read."""
        shown = self._shown({})
        return self._page(
            "preferences.html",
            wrong.kind,
            tokens=tokens,
            **shown,
            resubscribed=False,
            wrong=wrong,
            measuring="",
        )

    def broken_link(self, wrong: Reject) -> HTMLResponse:
        """After a link that leads nowhere, or could not be answered at the moment."""
        again = STATUS[wrong.kind] == 503
        return self._page("broken_link.html", wrong.kind, again=again)

    def _shown(self, chosen: Chosen) -> dict[str, Any]:
        """The template's values for the choices and what was saved of them."""
        return {
            "topics": self._topics, "paces": PACES, "pauses": list(preferences.MONTHS),
            "saved": bool(chosen),
            "ticked": chosen[TOPICS] or self._topics if TOPICS in chosen else (),
            "topics_saved": TOPICS in chosen,
            "pace": (chosen[PACE] or USUAL) if PACE in chosen else "",
            "until": chosen.get(PAUSED_UNTIL),
            "pause_ended": PAUSED_UNTIL in chosen and not chosen[PAUSED_UNTIL],
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
