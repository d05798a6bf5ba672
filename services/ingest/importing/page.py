"""The page for files at `/import`: bring one, say what its columns mean, try it, import it; signed
in by a secret key.
"""

import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import FileResponse

from services.ingest.http import request as intake
from services.ingest.importing import columns, mapping
from services.ingest.importing.guess import written
from services.ingest.importing.jobs import MAX_BYTES, MAX_FILES, Brought, Desk
from services.ingest.importing.run import Report
from services.ingest.importing.upload import Upload
from services.ingest.sources.imports import MAX_DAYS
from services.ingest.tracking.pages import HEADERS as PLAIN
from services.shared.clock import Clock
from services.shared.contracts.events import encode_bytes
from services.shared.contracts.provenance import HISTORY, NEW_LEADS
from services.shared.errors import Reject, Retry
from services.shared.http.keys import ApiKey, ApiKeys
from services.shared.http.problems import STATUS
from services.shared.http.rates import RateLimits
from services.shared.http.signin import PageSessions, SignedOut
from services.shared.playbook.loading import InvalidFile

HERE = Path(__file__).parent
PATH = "/import"
# browsers do not tell the ports of a host apart: the scorer's page has another one
COOKIE = "ripeline_import"
MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
MAX_FORM_FIELDS = 10_000
HEADERS = PLAIN | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    # with less, browsers hide the origin of our own forms from us
    "Referrer-Policy": "same-origin",
}
Handle = Callable[[Request], Coroutine[Any, Any, Response]]


def mount(
    app: FastAPI, keys: ApiKeys, rates: RateLimits, pepper: bytes, desk: Desk, clock: Clock
) -> None:
    """Adds the page, and what a distant importer asks first."""

    @app.get(
        "/v1/import",
        tags=["import"],
        response_model=None,
        openapi_extra={"security": [{"bearer": []}]},
    )
    async def facts(request: Request) -> Response:
        """What an importer has to know of the playbook, so that a file means the same from wherever
        it is sent.
        """
        rates.count_key(
            keys.authorize(intake.presented(request.headers.get("authorization")), "secret").id
        )
        return Response(encode_bytes(desk.facts), media_type="application/json")

    app.include_router(Page(keys, rates, pepper, desk, clock).router())


class Page:
    """The routes of the page."""

    def __init__(
        self, keys: ApiKeys, rates: RateLimits, pepper: bytes, desk: Desk, clock: Clock
    ) -> None:
        self._sessions, self._rates, self._desk, self._clock = (
            PageSessions(keys, pepper, "secret"),
            rates,
            desk,
            clock,
        )
        env = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        files = {file.name: file.read_bytes() for file in (HERE / "static").iterdir()}
        marks = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in files.items()}
        env.globals |= {
            "asset": lambda name: f"{PATH}/static/{name}?v={marks[name]}",
            "meanings": columns.MEANINGS, "kinds": columns.KINDS,
            "part": columns.part, "max_days": MAX_DAYS, "megabytes": MAX_BYTES >> 20,
            "zone": desk.facts.zone,
            "types": desk.facts.types, "outcome": desk.facts.outcome,
        }  # fmt: skip
        self._env, self._files = env, files

    def router(self) -> APIRouter:
        """All routes; they answer people in HTML, also when something is wrong."""
        router = APIRouter(prefix=PATH, route_class=self._route(), include_in_schema=False)
        plain: dict[str, Any] = {"response_model": None}
        posted: dict[str, Any] = {"methods": ["POST"], **plain}
        router.add_api_route("", self.start, **plain)
        router.add_api_route("", self.bring, **posted)
        router.add_api_route("/sign-in", self.sign_in, **plain)
        router.add_api_route("/sign-in", self.signed_in, **posted)
        router.add_api_route("/sign-out", self.sign_out, **posted)
        router.add_api_route("/static/{name}", self.static, **plain)
        router.add_api_route("/{number}", self.file, **plain)
        router.add_api_route("/{number}/columns", self.columns, **posted)
        router.add_api_route("/{number}/text", self.text, **posted)
        router.add_api_route("/{number}/try", self.run, **posted)
        router.add_api_route("/{number}/start", self.run, **posted)
        router.add_api_route("/{number}/remove", self.remove, **posted)
        router.add_api_route("/{number}/progress", self.progress, **plain)
        router.add_api_route("/{number}/rejected.csv", self.rejected, **plain)
        return router

    # -- signing in -------------------------------------------------------------------------------

    async def sign_in(self) -> Response:
        """Where the key is pasted."""
        return self._page("sign_in.html", problem=None)

    async def signed_in(self, request: Request) -> Response:
        """Signs in by the form."""
        form = await self._form(request)
        try:
            cookie = self._sessions.sign_in(form.get("key", "")[:200])
        except Reject as error:
            refused = self._rates.limit_guessing(request, error)
            return self._page("sign_in.html", STATUS[refused.kind], problem=refused)
        answer = _see(PATH)
        secure = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, cookie, path=PATH, httponly=True, samesite="strict", secure=secure
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Forgets who sits here."""
        _own(request)
        answer = _see(f"{PATH}/sign-in")
        answer.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")
        return answer

    # -- files ------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """Where a file is chosen."""
        key = self._holder(request)
        return self._page(
            "start.html", files=list(self._desk.of(key)), most=MAX_FILES, problem=None
        )

    async def bring(self, request: Request) -> Response:
        """Takes a file."""
        _own(request)
        brought = self._desk.place("", self._holder(request))
        try:
            brought.name = await Upload(brought.table, MAX_BYTES).receive(request)
            brought.look(self._desk.facts)
        except BaseException:
            self._desk.remove(brought)
            raise
        return _see(f"{PATH}/{brought.id}")

    async def file(self, request: Request, number: str) -> Response:
        """One file: columns, mapping, and what became of it."""
        return self._file(self._brought(request, number))

    async def columns(self, request: Request, number: str) -> Response:
        """Takes what the form says of the columns."""
        form, brought = await self._form(request), self._brought(request, number)
        return self._mapped(brought, written(columns.chosen(form, brought.header, brought.mapping)))

    async def text(self, request: Request, number: str) -> Response:
        """Takes the mapping as text, or a template."""
        form, brought = await self._form(request), self._brought(request, number)
        template = mapping.template(form.get("template", ""))
        return self._mapped(
            brought, template.read_text("utf-8") if template else form.get("text", "")
        )

    async def run(self, request: Request, number: str) -> Response:
        """Tries the file, or imports it."""
        form, brought = await self._form(request), self._brought(request, number)
        said, days = form.get("as", ""), form.get("days", "1")
        trying = request.url.path.endswith("/try")
        if said not in (HISTORY, NEW_LEADS):
            if not trying and brought.mapping.get("kind") != "suppressions":
                remedy = "choose whether these are history or new leads"
                return self._file(
                    brought, [Reject("the import does not say what it is", remedy=remedy)]
                )
            said = HISTORY
        if not days.isdecimal() or int(days) > MAX_DAYS:
            return self._file(
                brought, [Reject("not a number of days", remedy=f"write 0 to {MAX_DAYS}")]
            )
        report = Report(as_=said, days=int(days) if said == NEW_LEADS else 0, dry_run=trying)
        try:
            self._desk.start(brought, report)
        except InvalidFile as broken:
            return self._file(brought, _problems(broken))
        except Reject as error:
            return self._file(brought, [error])
        return _see(f"{PATH}/{brought.id}#report")

    async def remove(self, request: Request, number: str) -> Response:
        """Removes a file at once."""
        _own(request)
        self._desk.remove(self._brought(request, number))
        return _see(PATH)

    async def progress(self, request: Request, number: str) -> Response:
        """The report so far, for the script of the page; 204 once it has ended."""
        brought = self._brought(request, number)
        if not brought.job or brought.job.ended:
            return Response(status_code=204, headers=HEADERS)
        return self._page("_job.html", job=brought.job, it=brought)

    async def rejected(self, request: Request, number: str) -> Response:
        """The rejected rows with their reasons."""
        brought = self._brought(request, number)
        if not brought.rejected.is_file() or not brought.job or not brought.job.ended:
            raise Reject("there is no such list yet", remedy="try the file first", kind="not-found")
        return FileResponse(
            brought.rejected,
            headers=HEADERS,
            media_type="text/csv; charset=utf-8",
            filename="rejected.csv",
        )

    async def static(self, name: str) -> Response:
        """The page's own files."""
        if name not in self._files:
            raise Reject(
                "there is no such file", remedy="follow the links of the page", kind="not-found"
            )
        headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._files[name], headers=headers, media_type=MEDIA[Path(name).suffix])

    # -- what all share ---------------------------------------------------------------------------

    def _holder(self, request: Request) -> ApiKey:
        return self._sessions.key_of(request.cookies.get(COOKIE, ""))

    def _brought(self, request: Request, number: str) -> Brought:
        return self._desk.find(number, self._holder(request))

    async def _form(self, request: Request) -> dict[str, str]:
        """The fields of a form of ours."""
        _own(request)
        post = await intake.read(request, self._clock)
        try:
            return dict(
                parse_qsl(
                    post.body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS
                )
            )
        except ValueError:
            raise Reject("the form cannot be read", remedy="load the page again") from None

    def _mapped(self, brought: Brought, text: str) -> Response:
        """Keeps the mapping, also a wrong one, and says what is wrong with it."""
        brought.text = text.replace("\r\n", "\n")
        try:
            mapping.load(brought.text, "the mapping").check(brought.header)
        except InvalidFile as broken:
            return self._file(brought, _problems(broken))
        return _see(f"{PATH}/{brought.id}#run")

    def _file(self, brought: Brought, problems: list[Reject] | None = None) -> Response:
        said = brought.mapping
        return self._page(
            "file.html",
            400 if problems else 200,
            it=brought,
            job=brought.job,
            said=said,
            choices=columns.choices(brought.header, brought.rows, said),
            typed=columns.typed(brought.header, brought.rows, said),
            templates=list(mapping.templates()),
            problems=problems or [],
        )

    def _page(self, name: str, status: int = 200, **values: Any) -> Response:
        return Response(
            self._env.get_template(name).render(values), status, HEADERS, "text/html; charset=utf-8"
        )

    def _route(self) -> type[APIRoute]:
        page = self

        class PageRoute(APIRoute):
            """Answers people in HTML when something is wrong."""

            def get_route_handler(self) -> Handle:
                handle = super().get_route_handler()

                async def answer(request: Request) -> Response:
                    try:
                        return await handle(request)
                    except SignedOut:
                        return _see(f"{PATH}/sign-in")
                    except Reject as error:
                        return page._page("problem.html", STATUS.get(error.kind, 400), error=error)
                    except RequestValidationError:
                        wrong = Reject(
                            "there is no such page", remedy="follow the links of the page itself"
                        )
                        return page._page("problem.html", 404, error=wrong)
                    except Retry:
                        away = Reject(
                            "the database is away",
                            remedy="it comes back by itself; load the page again",
                        )
                        return page._page("problem.html", 503, error=away)

                return answer

        return PageRoute


def _own(request: Request) -> None:
    """Checks that a form of this page sent the request, as far as the browser tells. Raises Reject
    `forbidden`.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin", "")
    if site != "same-origin" if site else urlsplit(origin).netloc != request.headers.get("host"):
        remedy = "use the form of this page"
        raise Reject("another site sent this", where="Origin", remedy=remedy, kind="forbidden")


def _problems(broken: InvalidFile) -> list[Reject]:
    return [Reject(f"Line {one.line}: {one.what}", remedy=one.remedy) for one in broken.problems]


def _see(address: str) -> Response:
    return Response(status_code=303, headers=HEADERS | {"Location": address})
