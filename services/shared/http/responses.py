"""Answers in JSON, and how OpenAPI documents describe them: by the msgspec types themselves, which
become component schemas.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import FastAPI, Response

from services.shared.contracts.events import encode_bytes
from services.shared.http.schemas import mend

REF = "#/components/schemas/{name}"


def json_response(body: msgspec.Struct, status: int = 200) -> Response:
    """The answer of this body."""
    return Response(encode_bytes(body), status, media_type="application/json")


def documented(
    status: int, description: str, example: msgspec.Struct
) -> dict[int | str, dict[str, Any]]:
    """What to pass as `responses` of a route that answers like the example. Its type is to be named
    to `add_response_types`.
    """
    content = {
        "schema": {"$ref": REF.format(name=type(example).__name__)},
        "example": msgspec.to_builtins(example),
    }
    response = {"description": description, "content": {"application/json": content}}
    return {status: response}


def add_response_types(app: FastAPI, types: Iterable[type[msgspec.Struct]]) -> None:
    """Adds these types, and those that they are made of, to the app's OpenAPI document."""
    schemas = msgspec.json.schema_components(types, ref_template=REF)[1]
    undescribed = app.openapi

    def openapi() -> dict[str, Any]:
        document = undescribed()
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        mend(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
