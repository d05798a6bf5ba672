"""Writes the documents: `python -m services.ops.documents [FOLDER]`, `make docs`."""

import json
import sys
from pathlib import Path

from services.ops.documents import asyncapi, openapi
from services.shared.playbook.schema import schema_name, schemas
from services.shared.playbook.stage_model import Model
from services.shared.settings import ROOT

SCHEMAS = "../deploy/playbook/schema"


def documents() -> dict[str, str]:
    """The text of each document by its path below `docs`; the same code gives the same text."""
    schema = Model.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    written = {"model.schema.json": json.dumps(schema, indent=1) + "\n"}
    return (
        written
        | {"asyncapi.yaml": asyncapi.document()}
        | {f"openapi/{service}.json": text for service, text in openapi.documents().items()}
        | {f"{SCHEMAS}/{schema_name(file)}": text for file, text in schemas().items()}
    )


def main(folder: Path) -> None:
    """Writes all of them below a folder."""
    for name, text in documents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
