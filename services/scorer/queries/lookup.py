"""How callers of the API name a lead: by its id, by one identifier, or by another system's id."""

import uuid

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict

from services.shared.contracts.events import ExternalId, Interaction
from services.shared.contracts.identity import Cleaner, Identifier
from services.shared.errors import Reject


class ExternalIdBody(BaseModel):
    """A lead's id in another system."""

    model_config = ConfigDict(extra="forbid")
    system: str
    id: str


class LookupBody(BaseModel):
    """Exactly one identifier."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "ann@firm.example"}]}
    )
    email: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    external_id: ExternalIdBody | None = None


def identifier_of(cleaner: Cleaner, body: LookupBody, where: str = "") -> Identifier:
    """The identifier, cleaned. Raises Reject `invalid` unless there is exactly one, `not-found`
    where it is none; `where` names its place in the request, by default the field.
    """
    given = [name for name in LookupBody.model_fields if getattr(body, name) is not None]
    if len(given) != 1:
        raise Reject(
            "name exactly one identifier",
            where="body",
            remedy="send email, user_id, anonymous_id or external_id",
        )
    external = body.external_id
    found = cleaner.identifiers(
        Interaction(
            id="",
            type="",
            email=body.email or "",
            user_id=body.user_id or "",
            anonymous_id=body.anonymous_id or "",
            external_id=ExternalId(external.system, external.id) if external else None,
        )
    )
    if not found or any("\0" in identifier.text for identifier in found):
        raise Reject(
            "this identifies nobody",
            where=where or given[0],
            remedy="it is empty, malformed or a placeholder",
            kind="not-found",
        )
    return found[0]


def lead_reference(cleaner: Cleaner, text: str) -> uuid.UUID | Identifier:
    """What a path names: a lead's id, or SYSTEM:ID. Raises RequestValidationError where it is
    neither, Reject `not-found` where the id identifies nobody.
    """
    try:
        return uuid.UUID(text)
    except ValueError:
        system, _, external = text.partition(":")
    if not system or not external:
        raise RequestValidationError(
            [{"loc": ("path", "lead_id"), "msg": "neither a lead's id nor SYSTEM:ID"}]
        )
    body = LookupBody(external_id=ExternalIdBody(system=system, id=external))
    return identifier_of(cleaner, body, "path.lead_id")
