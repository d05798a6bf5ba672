"""The import page at `/import`: upload a file, say what its columns mean, try it, import it; signed
in by a secret key.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import FileResponse

from services.ingest.http.dependencies import Dependencies
from services.ingest.http.request import read
from services.ingest.importing import columns, mapping_file
from services.ingest.importing.guess import written
from services.ingest.importing.jobs import MAX_BYTES, MAX_FILES, ImportJobs, UploadedFile
from services.ingest.importing.mapping import READING
from services.ingest.importing.opening import reading_of
from services.ingest.importing.rendering import (
    HEADERS,
    PATH,
    ImportTemplates,
    see_other,
    sending_now,
)
from services.ingest.importing.run import ImportReport
from services.ingest.importing.upload import Upload
from services.ingest.sources.imports import MAX_DAYS
from services.shared.contracts.provenance import HISTORY, NEW_LEADS
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.acting import check_role
from services.shared.http.problems import STATUS
from services.shared.http.sessions import Sessions
from services.shared.http.signin import COOKIE as PAGE_COOKIE
from services.shared.http.signin import PageSessions, SignedOut, cookie_of
from services.shared.messaging import sending
from services.shared.people.audit import Actor, record
from services.shared.people.sign_in import end_session
from services.shared.playbook.loading import InvalidFile

# its own, beside that of the scorer's page, which browsers send to all ports of its host
COOKIE = "ripeline_import"
OWN_PATHS = re.compile(rf"{PATH}(/[0-9a-f]{{32}})?")
PART_OF_FILE = re.compile(rf"({PATH}/[0-9a-f]{{32}})/[a-z.]+")
MAX_FORM_FIELDS = 10_000
Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class ImportPage:
    """The routes of the page."""

    def __init__(self, parts: Dependencies, jobs: ImportJobs) -> None:
        keys = PageSessions(parts.keys, parts.pepper, "secret", admits=["query"])
        self._engine, self._sessions = parts.engine, Sessions(keys, parts.pepper, parts.engine)
        self._rates, self._jobs, self._clock = parts.rates, jobs, parts.clock
        self._templates = ImportTemplates(jobs.facts, parts.settings.page_url)

    def router(self) -> APIRouter:
        """All routes; they answer people in HTML, also when something is wrong."""
        router = APIRouter(
            prefix=PATH, route_class=_route_class(self._templates), include_in_schema=False
        )
        plain: dict[str, Any] = {"response_model": None}
        posted: dict[str, Any] = {"methods": ["POST"], **plain}
        router.add_api_route("", self.start, **plain)
        router.add_api_route("", self.upload, **posted)
        router.add_api_route("/sign-in", self.sign_in, **plain)
        router.add_api_route("/sign-in", self.signed_in, **posted)
        router.add_api_route("/sign-out", self.sign_out, **posted)
        router.add_api_route("/static/{name}", self.static, **plain)
        router.add_api_route("/{file_id}", self.file, **plain)
        router.add_api_route("/{file_id}/columns", self.columns, **posted)
        router.add_api_route("/{file_id}/text", self.text, **posted)
        router.add_api_route("/{file_id}/answer", self.answer, **posted)
        router.add_api_route("/{file_id}/try", self.run, **posted)
        router.add_api_route("/{file_id}/start", self.run, **posted)
        router.add_api_route("/{file_id}/remove", self.remove, **posted)
        router.add_api_route("/{file_id}/progress", self.progress, **plain)
        router.add_api_route("/{file_id}/rejected.csv", self.rejected, **plain)
        return router

    # -- signing in -------------------------------------------------------------------------------

    async def sign_in(self, request: Request, ticket: str = "", to: str = PATH) -> Response:
        """Where the key is pasted; a ticket of the scorer's page signs in by itself."""
        if ticket:
            try:
                return self._enter(request, self._sessions.redeem(ticket), to)
            except SignedOut:
                pass  # it is too old
        return self._templates.page("sign_in.html", problem=None, to=own_path(to))

    async def signed_in(self, request: Request) -> Response:
        """Signs in by the form."""
        form = await self._form(request)
        try:
            cookie = self._sessions.keys.sign_in(form.get("key", "")[:200])
        except Reject as error:
            refused = self._rates.limit_guessing(request, error)
            to = own_path(form.get("to", PATH))
            return self._templates.page(
                "sign_in.html", STATUS[refused.kind], problem=refused, to=to
            )
        return self._enter(request, cookie, form.get("to", PATH))

    def _enter(self, request: Request, cookie: str, to: str) -> Response:
        answer = see_other(own_path(to))
        secure = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, cookie, path=PATH, httponly=True, samesite="strict", secure=secure
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Signs out."""
        _check_same_site(request)
        with suppress(SignedOut):
            session = await self._sessions.session(self._cookie(request))
            async with self._engine.begin() as connection:
                await end_session(connection, session.id)
        answer = see_other(f"{PATH}/sign-in")
        answer.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")
        answer.delete_cookie(PAGE_COOKIE, httponly=True, samesite="lax")
        return answer

    # -- files ------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """Where a file is chosen."""
        files = list(self._jobs.of(await self._who(request)))
        return self._templates.page("start.html", files=files, most=MAX_FILES, problem=None)

    async def upload(self, request: Request) -> Response:
        """Takes a file."""
        _check_same_site(request)
        file = self._jobs.add("", await self._who(request))
        try:
            file.name = await Upload(file.table, MAX_BYTES).receive(request)
            await asyncio.to_thread(file.read_sample, self._jobs.facts)
        except BaseException:
            self._jobs.remove(file)
            raise
        return see_other(f"{PATH}/{file.id}")

    async def file(self, request: Request, file_id: str) -> Response:
        """One file: columns, mapping, and the report of its import."""
        return self._file_page(await self._find(request, file_id))

    async def columns(self, request: Request, file_id: str) -> Response:
        """Takes the meanings of the columns from the form."""
        form, file = await self._form(request), await self._find(request, file_id)
        chosen = columns.chosen(form, file.header, file.mapping)
        return await self._save_mapping(file, written(chosen))

    async def text(self, request: Request, file_id: str) -> Response:
        """Takes the mapping as text, or a template."""
        form, file = await self._form(request), await self._find(request, file_id)
        template = mapping_file.template(form.get("template", ""))
        text = form.get("text", "")
        if template:  # what was found of the file holds for every mapping
            kept = {key: file.mapping[key] for key in READING if file.mapping.get(key)}
            text = template.read_text("utf-8") + (written(kept) if kept else "")
        return await self._save_mapping(file, text)

    async def answer(self, request: Request, file_id: str) -> Response:
        """Takes the answer to what the file leaves open."""
        form, file = await self._form(request), await self._find(request, file_id)
        number = form.get("question", "")
        text = file.answer(
            int(number) if number in "0123456789" and number else 10, form.get("answer", "")
        )
        return await self._save_mapping(file, text)

    async def run(self, request: Request, file_id: str) -> Response:
        """Tries the file, or imports it."""
        form, file = await self._form(request), await self._find(request, file_id)
        try:
            report = _declared(form, file, dry_run=request.url.path.endswith("/try"))
            self._jobs.checked(file)
            if not report.dry_run:
                await self._record(file, report)
            self._jobs.start(file, report, partial(self._record, file, report))
        except InvalidFile as broken:
            return self._file_page(file, _problems(broken))
        except Reject as error:
            return self._file_page(file, [error])
        return see_other(f"{PATH}/{file.id}#report")

    async def remove(self, request: Request, file_id: str) -> Response:
        """Removes a file at once."""
        _check_same_site(request)
        self._jobs.remove(await self._find(request, file_id))
        return see_other(PATH)

    async def progress(self, request: Request, file_id: str) -> Response:
        """The report so far, for the script of the page; 204 once it has ended."""
        file = await self._find(request, file_id)
        if not file.job or file.job.ended:
            return Response(status_code=204, headers=HEADERS)
        return self._templates.page("_job.html", job=file.job, file=file)

    async def rejected(self, request: Request, file_id: str) -> Response:
        """The rejected rows with their reasons."""
        file = await self._find(request, file_id)
        if not file.rejected.is_file() or not file.job or not file.job.ended:
            raise Reject("there is no such list yet", remedy="try the file first", kind="not-found")
        return FileResponse(
            file.rejected,
            headers=HEADERS,
            media_type="text/csv; charset=utf-8",
            filename="rejected.csv",
        )

    async def static(self, name: str) -> Response:
        """The page's own files."""
        return self._templates.static(name)

    # -- what all share ---------------------------------------------------------------------------

    async def _who(self, request: Request) -> Actor:
        """Who is signed in, here or at the scorer's page; what they get tells of the kill switch.
        Raises SignedOut, and Reject `forbidden` for a person whose role may not import.
        """
        try:
            actor = await self._sessions.who(cookie_of(request, COOKIE))
        except SignedOut:
            actor = await self._sessions.who(cookie_of(request, PAGE_COOKIE))
        check_role(actor, "marketing", "admin")
        await self._look_at_sending()
        return actor

    async def _look_at_sending(self) -> None:
        """Reads what holds up sending; while the database is away nothing is told of it."""
        try:
            async with self._engine.connect() as connection:
                sending_now.set(await sending.read(connection))
        except Exception as error:
            if not is_transient(error):
                raise

    def _cookie(self, request: Request) -> str:
        return cookie_of(request, COOKIE) or cookie_of(request, PAGE_COOKIE)

    async def _find(self, request: Request, file_id: str) -> UploadedFile:
        return self._jobs.find(file_id, await self._who(request))

    async def _record(self, file: UploadedFile, report: ImportReport) -> None:
        """Says in the audit log that an import begins, or once it has ended what it was."""
        ended = report.counts() if file.job and file.job.report is report else {}
        details = {"as": report.as_, "days": report.days, **ended}
        async with self._engine.begin() as connection:
            await record(connection, file.owner, "import", f"file {file.name}", details)

    async def _form(self, request: Request) -> dict[str, str]:
        """The fields of a form of ours."""
        _check_same_site(request)
        inbound = await read(request, self._clock)
        try:
            return dict(
                parse_qsl(
                    inbound.body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS
                )
            )
        except ValueError:
            raise Reject("the form cannot be read", remedy="load the page again") from None

    async def _save_mapping(self, file: UploadedFile, text: str) -> Response:
        """Keeps the mapping, also a wrong one, and shows what is wrong with it; reads the file
        again where the mapping says otherwise how.
        """
        file.text = text.replace("\r\n", "\n")
        try:
            plan = mapping_file.load(file.text, "the mapping")
            reading = reading_of(plan.mapping)
            if reading != file.reading:
                await asyncio.to_thread(file.read, reading)
            plan.check(file.header)
        except InvalidFile as broken:
            return self._file_page(file, _problems(broken))
        except Reject as error:
            return self._file_page(file, [error])
        return see_other(f"{PATH}/{file.id}#{'question' if file.questions else 'run'}")

    def _file_page(self, file: UploadedFile, problems: list[Reject] | None = None) -> Response:
        current = file.mapping
        return self._templates.page(
            "file.html",
            400 if problems else 200,
            file=file,
            job=file.job,
            mapping=current,
            choices=columns.choices(file.header, file.rows, current),
            typed=columns.typed(file.header, file.rows, current),
            templates=list(mapping_file.templates()),
            problems=problems or [],
        )


def _route_class(templates: ImportTemplates) -> type[APIRoute]:
    """Routes that answer people in HTML when something is wrong."""

    class PageRoute(APIRoute):
        """Answers people in HTML when something is wrong."""

        def get_route_handler(self) -> Handle:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handle(request)
                except SignedOut:
                    return see_other(sign_in_at(page_of(request)))
                except Reject as error:
                    problem, status = error, STATUS[error.kind]
                except RequestValidationError:
                    problem, status = NO_PAGE, 404
                except Retry:
                    problem, status = AWAY, 503
                back = page_of(request)
                back = "" if back in (PATH, request.url.path) else back
                return templates.page("problem.html", status, error=problem, back=back)

            return answer

    return PageRoute


def own_path(address: str) -> str:
    """The address where it is one of this page's own, else its start."""
    return address if OWN_PATHS.fullmatch(address) else PATH


def page_of(request: Request) -> str:
    """The page to which a request belongs: that of its file, or the start."""
    part = PART_OF_FILE.fullmatch(request.url.path)
    return own_path(part[1] if part else request.url.path)


def sign_in_at(place: str) -> str:
    """Where one signs in and then goes on at this place."""
    return f"{PATH}/sign-in" + (f"?to={place}" if place != PATH else "")


NO_PAGE = Reject("there is no such page", remedy="follow the links of the page itself")
AWAY = Reject("the database is away", remedy="it comes back by itself; load the page again")


def _declared(form: dict[str, str], file: UploadedFile, *, dry_run: bool) -> ImportReport:
    """The report of an import as the form declares it: history, or new leads over some days. Raises
    Reject where it declares neither, which only a dry run or suppressions may.
    """
    import_as, days = form.get("as", ""), form.get("days", "1")
    if import_as not in (HISTORY, NEW_LEADS):
        if not dry_run and file.mapping.get("kind") != "suppressions":
            remedy = "choose whether these are history or new leads"
            raise Reject("the import does not say what it is", remedy=remedy)
        import_as = HISTORY
    if not days.isdecimal() or int(days) > MAX_DAYS:
        raise Reject("not a number of days", remedy=f"write 0 to {MAX_DAYS}")
    return ImportReport(
        as_=import_as, days=int(days) if import_as == NEW_LEADS else 0, dry_run=dry_run
    )


def _check_same_site(request: Request) -> None:
    """Checks that a form of this page sent the request, as far as the browser shows. Raises Reject
    `forbidden`.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin", "")
    if site != "same-origin" if site else urlsplit(origin).netloc != request.headers.get("host"):
        remedy = "use the form of this page"
        raise Reject("another site sent this", where="Origin", remedy=remedy, kind="forbidden")


def _problems(broken: InvalidFile) -> list[Reject]:
    return [
        Reject(f"Line {problem.line}: {problem.what}", remedy=problem.remedy)
        for problem in broken.problems
    ]
