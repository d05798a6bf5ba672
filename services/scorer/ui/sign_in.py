"""Signing in to the page, as a person by a link that is mailed or by a password, or with a query
key; and out again.
"""

import asyncio
from contextlib import suppress
from typing import Annotated, NamedTuple

import structlog
from fastapi import APIRouter, Form, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.ui.frame import MAX_PLACE, Frame, own_path, see_other
from services.shared.db import is_transient
from services.shared.errors import Reject
from services.shared.http.acting import acts
from services.shared.http.parameters import NO_NUL
from services.shared.http.problems import STATUS
from services.shared.http.rates import RateLimit, TooManyRequests, network_of
from services.shared.http.sessions import Sessions
from services.shared.http.signin import COOKIE, SignedOut, cookie_of
from services.shared.people import sign_in, store
from services.shared.people.audit import Actor, record
from services.shared.people.mail import SignInMail, address_of
from services.shared.people.passwords import LONGEST, Passwords
from services.shared.people.sign_in import Session, Way
from services.shared.settings import Settings

log = structlog.get_logger()
MAX_TOKEN = 100  # characters of a link's token
MOST_MAILS = 50  # links under way at once; more are left out
# attempts within the window: of a network for a mail address, and of a network for any
LINKS, PASSWORDS, BY_CLIENT, WINDOW = 5, 10, 100, "15minutes"
NETWORKS = 10  # as many attempts as these many networks may make, all together, for an address
UNKNOWN = Reject(
    "address and password do not belong together",
    remedy="try again, or have a link sent",
    kind="unauthorized",
)
USED = Reject(
    "this link is used up, too old, or none of ours",
    remedy="have another one sent",
    kind="unauthorized",
)
Mail = Annotated[str, Form(max_length=store.MAX_MAIL, pattern=NO_NUL)]
Place = Annotated[str, Form(max_length=MAX_PLACE)]


class Limits(NamedTuple):
    """Of attempts for a mail address: from one network, and from all together, so that a stranger
    alone locks nobody out.
    """

    here: RateLimit
    everywhere: RateLimit

    @classmethod
    def of(cls, attempts: int) -> "Limits":
        """So many from one network."""
        return cls(
            RateLimit("mail address", f"{attempts}/{WINDOW}"),
            RateLimit("mail address", f"{attempts * NETWORKS}/{WINDOW}"),
        )


class SignIn:
    """The routes of sessions, which need none."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, sessions: Sessions, frame: Frame
    ) -> None:
        self._settings, self._engine, self._sessions = settings, engine, sessions
        self._frame, self._mail = frame, SignInMail(settings)
        self.passwords = Passwords()
        self._links, self._tries = Limits.of(LINKS), Limits.of(PASSWORDS)
        self._changes = RateLimit("person", f"{PASSWORDS}/{WINDOW}")
        self._clients = RateLimit("address", f"{BY_CLIENT}/{WINDOW}")
        self._under_way: set[asyncio.Task[None]] = set()

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/sign-in", self.by_key_link)
        router.add_api_route("/sign-in", self.by_key, methods=["POST"])
        router.add_api_route("/sign-in/mail", self.send_link, methods=["POST"])
        router.add_api_route("/sign-in/link", self.open_link)
        router.add_api_route("/sign-in/link", self.by_link, methods=["POST"])
        router.add_api_route("/sign-in/password", self.by_password, methods=["POST"])
        router.add_api_route("/sign-out", self.sign_out, methods=["POST"])

    async def check(self, request: Request) -> Actor:
        """Who is signed in, and acts from here on. Raises SignedOut."""
        actor, request.state.session = await self._sessions.open(cookie_of(request, COOKIE))
        return acts(request, actor)

    def session(self, request: Request) -> Session | None:
        """The session of the person of a request that was checked; None for a key."""
        session: Session | None = request.state.session
        return session

    def ticket(self, request: Request) -> str:
        """What takes the session of a request that was checked to a page on another host."""
        return self._sessions.ticket(cookie_of(request, COOKIE))

    # -- with a key -------------------------------------------------------------------------------

    async def by_key_link(
        self,
        request: Request,
        key: Annotated[str, Query(max_length=200)] = "",
        to: Annotated[str, Query(max_length=MAX_PLACE)] = "/",
    ) -> Response:
        """Signs in with a key, or shows the ways to sign in."""
        if key:
            return await self.by_key(request, key, to)
        return await self._ways(to)

    async def by_key(
        self,
        request: Request,
        key: Annotated[str, Form(max_length=200)] = "",
        to: Place = "/",
    ) -> Response:
        """Signs in with a key."""
        try:
            cookie = self._sessions.keys.sign_in(key)
        except Reject as error:
            return await self._ways(to, error, "key")
        return _enter(request, cookie, to)

    # -- by a link --------------------------------------------------------------------------------

    async def send_link(self, request: Request, mail: Mail = "", to: Place = "/") -> Response:
        """Sends a link to whoever has this address; the answer is the same for an address that
        nobody has.
        """
        self._count(request, self._links, mail)
        self.invite(mail, own_path(to))
        return self._frame.page("sign_in_sent.html", minutes=sign_in.LINK_MINUTES)

    def invite(self, mail: str, to: str = "") -> None:
        """Sends a link to whoever has this address, beside the answer to the request, which takes
        as long for any address.
        """
        if len(self._under_way) >= MOST_MAILS:
            return log.error("sign_in_mail_left_out", under_way=len(self._under_way))
        task = asyncio.create_task(self._send(mail, to))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _send(self, mail: str, to: str) -> None:
        try:
            async with self._engine.begin() as connection:
                person = await store.by_mail(connection, mail)
                token = await sign_in.make_link(connection, person.id) if person else ""
            if person:
                link = address_of(self._settings, token, to)
                await self._mail.send(person.name, person.mail, link)
        except Exception as error:
            log.error("sign_in_mail_failed", reason=str(error) or type(error).__name__)

    async def open_link(
        self,
        token: Annotated[str, Query(max_length=MAX_TOKEN)] = "",
        to: Annotated[str, Query(max_length=MAX_PLACE)] = "/",
    ) -> Response:
        """Shows the button that signs in: programs that look into mails fetch links, and must not
        use them up.
        """
        return self._frame.page("sign_in_link.html", token=token, to=own_path(to))

    async def by_link(
        self,
        request: Request,
        token: Annotated[str, Form(max_length=MAX_TOKEN)] = "",
        to: Place = "/",
    ) -> Response:
        """Signs in by a link, which is used up."""
        async with self._engine.begin() as connection:
            found = await sign_in.use_link(connection, token)
            if found:
                person = await store.person(connection, found)
                return await self._begin(connection, request, person, "link", to)
        return await self._ways(to, USED, "mail")

    # -- by a password ----------------------------------------------------------------------------

    async def by_password(
        self,
        request: Request,
        mail: Mail = "",
        password: Annotated[str, Form(max_length=LONGEST)] = "",
        to: Place = "/",
    ) -> Response:
        """Signs in by address and password."""
        self._count(request, self._tries, mail)
        async with self._engine.connect() as connection:
            person = await store.by_mail(connection, mail)
            stored = await store.password_of(connection, person.id if person else None)
        if not await self.passwords.is_right(stored, password) or not person or not stored:
            return await self._ways(to, UNKNOWN, "mail")
        outdated = self.passwords.is_outdated(stored)
        renewed = await self.passwords.hash(password) if outdated else None
        async with self._engine.begin() as connection:
            if renewed:
                await store.renew_password(connection, person, renewed)
            return await self._begin(connection, request, person, "password", to)

    async def is_right(self, person: store.Person, stored: str | None, password: str) -> bool:
        """Whether this is the password of the person, who is signed in. Raises Reject
        `too-many`.
        """
        _count(self._changes, str(person.id))
        return await self.passwords.is_right(stored, password)

    # -- what all share ---------------------------------------------------------------------------

    async def sign_out(self, request: Request) -> Response:
        """Ends the session of this browser."""
        with suppress(SignedOut):
            _, session = await self._sessions.open(cookie_of(request, COOKIE))
            if session:
                async with self._engine.begin() as connection:
                    await sign_in.end_session(connection, session.id)
        response = see_other("/sign-in")
        response.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return response

    async def _begin(
        self,
        connection: AsyncConnection,
        request: Request,
        person: store.Person,
        way: Way,
        to: str,
    ) -> Response:
        client = request.headers.get("user-agent", "")
        session = await sign_in.begin_session(connection, person.id, way, client)
        actor = Actor("person", str(person.id), person.name, person.role)
        await record(connection, actor, "sign-in", f"person {person.id}", {"by": way})
        return _enter(request, self._sessions.cookie(session), _first_page(person, to))

    def _count(self, request: Request, limits: Limits, mail: str) -> None:
        """Counts an attempt for an address. Raises Reject `too-many`."""
        network, mail = network_of(request), mail.strip().lower()
        _count(self._clients, network)
        _count(limits.here, f"{network} {mail}")
        _count(limits.everywhere, mail)

    async def _ways(self, to: str, problem: Reject | None = None, at: str = "") -> Response:
        """The ways to sign in, with what went wrong at one of them."""
        return self._frame.page(
            "sign_in.html",
            STATUS[problem.kind] if problem else 200,
            to=own_path(to),
            problem=problem,
            at=at,
            by_name=at == "mail" or await self._people_may_sign_in(),
        )

    async def _people_may_sign_in(self) -> bool:
        """Whether there is anybody to sign in by name; no while the database is away."""
        try:
            async with self._engine.connect() as connection:
                return await store.is_anybody(connection)
        except Exception as error:
            if is_transient(error):
                return False
            raise


def _count(limit: RateLimit, who: str) -> None:
    """Counts an attempt. Raises Reject `too-many`."""
    try:
        limit.count(who)
    except TooManyRequests as error:
        remedy = "wait a quarter of an hour"
        raise Reject("too many attempts", remedy=remedy, kind="too-many") from error


def _first_page(person: store.Person, to: str) -> str:
    """Where a person goes on: sales, from the start, at whom to call."""
    return "/today" if person.role == "sales" and own_path(to) == "/" else to


def _enter(request: Request, cookie: str, to: str) -> Response:
    response = see_other(own_path(to))
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, httponly=True, samesite="lax", secure=secure)
    return response
