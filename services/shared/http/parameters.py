"""Parameters of addresses: one that a route does not declare is refused with the nearest that it
does, as silence would mislead.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from services.shared.errors import Reject
from services.shared.nearest import Names

MAX_SHOWN = 60  # characters of an unknown name
NO_NUL = r"^[^\x00]*$"  # which PostgreSQL stores in no text
_known: WeakKeyDictionary[Any, Names] = WeakKeyDictionary()  # of the function behind a route


async def only_declared(request: Request) -> None:
    """To be a dependency of every route of an API. Raises Reject for a parameter that the route
    does not declare.
    """
    if request.scope["query_string"]:
        check(request.query_params, declared(request.scope["route"]))


def check(given: Iterable[str], known: Names) -> None:
    """Raises Reject for the first name that is not known."""
    for name in given:
        if name not in known:
            raise _unknown(name, known)


def declared(route: APIRoute) -> Names:
    """The parameters that a route and what it depends on declare."""
    known = _known.get(route.endpoint)
    if known is None:
        known = _known[route.endpoint] = Names(_declared(route.dependant))
    return known


def _declared(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (each.alias or name for name, each in kind.model_fields.items())
        else:
            yield field.alias
    for further in dependant.dependencies:
        yield from _declared(further)


def _unknown(name: str, known: Names) -> Reject:
    shown, nearest = name[:MAX_SHOWN], known.nearest(name)
    choice = f"use one of {', '.join(sorted(known.known))}" if known.known else "leave it out"
    return Reject(
        f"there is no parameter {shown!r}",
        where=f"query.{shown}",
        remedy=f"did you mean {nearest!r}? Otherwise {choice}" if nearest else choice,
    )
