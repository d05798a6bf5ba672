"""How the page is rendered: templates with everything escaped, own assets, and headers that let
nothing else in.
"""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from services.scorer import wording as words
from services.scorer.model import trajectory as curve
from services.scorer.ui import contacts
from services.shared.clock import DAY, Clock, from_us, local_time, rfc3339, to_us
from services.shared.contracts.events import Touch
from services.shared.contracts.touch_reasons import STATUS_SENTENCES
from services.shared.playbook.sections import Playbook

HERE = Path(__file__).parent
WALL_CLOCK = Clock()
MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src "
        "'self'; frame-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
EXACT, DATE = "{0.day} {0:%b %Y, %H:%M} {0:%Z}", "{0.day} {0:%b %Y}"
MAIL_HEADERS = HEADERS | {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action "
        "'none'; base-uri 'none'; "
        "frame-ancestors 'self'"
    )
}
# Links of a mail that is only looked at lead nowhere: a sandbox without pop-ups opens no other
# page.
MAIL_HEAD = '<!doctype html><meta charset="utf-8"><base target="_blank">'


class Assets:
    """The page's own files, in memory, named with a hash of their content so that browsers may keep
    them.
    """

    def __init__(self, folder: Path = HERE / "static") -> None:
        files = [file for file in folder.iterdir() if file.suffix in MEDIA]
        self._files = {file.name: (file.read_bytes(), MEDIA[file.suffix]) for file in files}
        self._hash = {
            name: hashlib.sha256(body).hexdigest()[:12] for name, (body, _) in self._files.items()
        }

    def address(self, name: str) -> str:
        """The path under which a file is served."""
        return f"/static/{name}?v={self._hash[name]}"

    async def respond(self, name: str) -> Response:
        """The file, or 404."""
        if name not in self._files:
            return Response("not found", 404, HEADERS, "text/plain")
        body, media = self._files[name]
        return Response(
            body, 200, HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}, media
        )


class Renderer:
    """Templates with the page's wording as filters; times in the company's zone, which
    they name.
    """

    def __init__(self, playbook: Playbook, assets: Assets, clock: Clock = WALL_CLOCK) -> None:
        self._zone, self._stages = ZoneInfo(playbook.company.timezone), playbook.stages
        self._clock = clock
        env = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        env.filters |= {
            "when": self.when, "exact": self.exact, "tint": self.tint, "plain": words.plain,
            "band": words.band,
            "signed": words.signed, "sureness": words.sureness,
            "why": words.why_in_words, "reason": words.reason_in_words, "count_of": words.count_of,
            "visitor": words.visitor_name,
            "mailto": contacts.mail_address, "tel": contacts.dial_address,
            "from_us": from_us, "us": to_us,
            "tick": self.tick, "coded": coded,
        }  # fmt: skip
        env.globals |= {
            "asset": assets.address, "company": playbook.company.name, "chance": words.chance,
            "statuses": STATUS_SENTENCES,
            "title_of": lambda content: words.title_of(content, playbook.content_by_id),
            "program": {program.id: program.name for program in playbook.programs}.get,
            "areas": curve.areas, "line": curve.line, "ceiling": curve.ceiling,
            "bands": words.BANDS,
        }  # fmt: skip
        self._env = env

    def fragment(self, name: str, **values: Any) -> str:
        """A part of a page."""
        return self._env.get_template(name).render(values)

    def page(self, name: str, status: int = 200, **values: Any) -> Response:
        """A whole page."""
        return Response(self.fragment(name, **values), status, HEADERS, "text/html; charset=utf-8")

    def when(self, moment: datetime | int | None) -> Markup:
        """How long ago a time (a datetime or µs) is, or its date; exact where somebody points, and
        for machines.
        """
        if moment is None:
            return Markup("&ndash;")
        moment = from_us(moment) if isinstance(moment, int) else moment
        local = local_time(moment, self._zone)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            rfc3339(moment),
            EXACT.format(local),
            words.ago(moment, self._clock.now()) or DATE.format(local),
        )

    def exact(self, moment: datetime | int) -> Markup:
        """A time to the minute with its zone, readable for machines too."""
        moment = from_us(moment) if isinstance(moment, int) else moment
        return Markup('<time datetime="{}">{}</time>').format(
            rfc3339(moment), EXACT.format(local_time(moment, self._zone))
        )

    def tick(self, instant: int, shown: curve.Curve) -> str:
        """An instant on the axis: the date, or the time of day where little time is shown."""
        moment = local_time(from_us(instant), self._zone)
        return (
            f"{moment.day} {moment:%b}"
            if shown.at[-1] - shown.at[0] > 3 * DAY
            else f"{moment.day} {moment:%b %H:%M}"
        )

    def tint(self, tone: str) -> str:
        """The class that colours a stage or a status."""
        if tone in self._stages[:-1]:
            return f"stage stage-{self._stages.index(tone) % 8}"
        return (
            f"stage stage-{tone}"
            if tone in ("unknown", self._stages[-1])
            else f"status status-{tone}"
        )


def coded(sentence: str) -> Markup:
    """What stands between backticks, as code."""
    code = Markup("<code>{}</code>")
    parts = sentence.split("`")
    return Markup().join(
        code.format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def mail_document(touch: Touch) -> Response:
    """A mail's HTML for a sandboxed frame: it runs nothing, fetches nothing, and opens nothing."""
    return Response(MAIL_HEAD + touch.html, 200, MAIL_HEADERS, "text/html; charset=utf-8")
