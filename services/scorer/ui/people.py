"""The page of people: who may sign in, in which role, and one's own sessions and password."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.ui.frame import Frame, see_other
from services.scorer.ui.sign_in import SignIn
from services.shared.errors import Reject
from services.shared.http.acting import Acting, only
from services.shared.http.problems import STATUS
from services.shared.people import sign_in, store
from services.shared.people.audit import Actor, record
from services.shared.people.passwords import LONGEST, SHORTEST, check_password
from services.shared.people.roles import ROLES

PAGE = "/people"
ADMIN, ANY_PERSON = only("admin", keys=False), only(*ROLES, keys=False)
Word = Annotated[str, Form(max_length=store.MAX_MAIL)]
Password = Annotated[str, Form(max_length=LONGEST)]


class PeopleRoutes:
    """People, their roles and sessions."""

    def __init__(self, engine: AsyncEngine, sign_in: SignIn, frame: Frame) -> None:
        self._engine, self._sign_in, self._frame = engine, sign_in, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route(PAGE, self.people)
        for path, change, who in (
            (PAGE, self.add, ADMIN),
            (f"{PAGE}/{{person}}/role", self.set_role, ADMIN),
            (f"{PAGE}/{{person}}/disable", self.disable, ADMIN),
            (f"{PAGE}/password", self.set_password, ANY_PERSON),
            (f"{PAGE}/sessions/{{session}}/end", self.end_session, ANY_PERSON),
        ):
            router.add_api_route(path, change, methods=["POST"], dependencies=[who])

    async def people(self, request: Request, actor: Acting) -> Response:
        """Everybody; of oneself, and for an admin of all, the sessions."""
        return await self._page(request, actor)

    async def add(
        self, request: Request, actor: Acting, name: Word = "", mail: Word = "", role: Word = ""
    ) -> Response:
        """Adds a person and sends a link."""
        try:
            async with self._engine.begin() as connection:
                person = await store.add(connection, actor, name, mail, role)
        except Reject as error:
            return await self._page(request, actor, error)
        self._sign_in.invite(person.mail)
        return see_other(PAGE)

    async def set_role(
        self, request: Request, actor: Acting, person: uuid.UUID, role: Word = ""
    ) -> Response:
        """Gives somebody another role."""
        try:
            async with self._engine.begin() as connection:
                await store.set_role(connection, actor, person, role)
        except Reject as error:
            return await self._page(request, actor, error)
        return see_other(PAGE)

    async def disable(self, request: Request, actor: Acting, person: uuid.UUID) -> Response:
        """Ends somebody's sessions and lets nobody sign in as them."""
        try:
            async with self._engine.begin() as connection:
                await store.disable(connection, actor, person)
        except Reject as error:
            return await self._page(request, actor, error)
        return see_other(PAGE)

    async def set_password(
        self, request: Request, actor: Acting, password: Password = "", current: Password = ""
    ) -> Response:
        """Sets one's own password, which ends one's other sessions. Who signed in by the old
        password gives it once more.
        """
        session = self._sign_in.session(request)
        try:
            async with self._engine.connect() as connection:
                person = await store.person(connection, actor.id)
                stored = await store.password_of(connection, person.id)
            check_password(password, person.mail)
            by_password = session is None or session.way == "password"
            if by_password and not await self._sign_in.is_right(person, stored, current):
                raise Reject("the current password is another one", where="current")
            made = await self._sign_in.passwords.hash(password)
        except Reject as error:
            return await self._page(request, actor, error)
        async with self._engine.begin() as connection:
            but = session.id if session else None
            await store.set_password(connection, actor, person, made, but)
        return see_other(PAGE)

    async def end_session(self, actor: Acting, session: uuid.UUID) -> Response:
        """Ends a session of one's own, or as an admin anybody's."""
        async with self._engine.begin() as connection:
            whose = await sign_in.end_session(connection, session)
            if whose is None or (str(whose) != actor.id and actor.role != "admin"):
                raise Reject(
                    "no such session", where="id", remedy="load the page again", kind="not-found"
                )
            await record(connection, actor, "session", f"person {whose}", {"change": "ended"})
        return see_other(PAGE)

    async def _page(
        self, request: Request, actor: Actor, problem: Reject | None = None
    ) -> Response:
        current = self._sign_in.session(request)
        async with self._engine.connect() as connection:
            people = await store.everybody(connection)
            sessions = await _sessions(connection, actor)
        return self._frame.page(
            "people.html",
            STATUS[problem.kind] if problem else 200,
            here="people",
            actor=actor,
            me=next((one for one in people if str(one.id) == actor.id), None),
            people=people,
            roles=ROLES,
            sessions=sessions,
            current=current,
            shortest=SHORTEST,
            problem=problem,
        )


async def _sessions(connection: AsyncConnection, actor: Actor) -> list[sign_in.Session]:
    """Those that the actor may end."""
    if actor.kind != "person":
        return []
    whose = None if actor.role == "admin" else uuid.UUID(actor.id)
    return await sign_in.sessions_of(connection, whose)
