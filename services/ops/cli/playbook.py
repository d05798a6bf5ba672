"""`ripeline playbook`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from services.ops.cli.options import Json
from services.scorer.model.stage_filter import StageModel
from services.shared.playbook.loading import InvalidFile, load
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT

app = typer.Typer(
    no_args_is_help=True, help="The playbook: what the company decided about its leads."
)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of the playbook.")] = ROOT
    / "deploy"
    / "playbook",
    as_json: Json = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write the model's eigenbasis into model.json.")
    ] = False,
) -> None:
    """Validate a playbook: every problem with file, line and remedy; exit code 1 where there is
    one.
    """
    try:
        playbook = load(folder)
    except InvalidFile as broken:
        _print_problems(broken, as_json=as_json)
        raise typer.Exit(1) from None
    if write:
        _write_eigenbasis(playbook, folder / "model.json")
    if as_json:
        counts = {"content": len(playbook.content), "fold_hash": playbook.fold_hash}
        return print(json.dumps({"problems": [], **counts}))
    print(
        f"{folder.name}: {len(playbook.content)} items, {len(playbook.programs)} programs, "
        "no problems"
    )
    if not write and _lacks_eigenbasis(playbook):
        print(
            "model.json holds no eigenbasis of its parameters: run with --write, so that two "
            "machines agree bit for bit"
        )


def _print_problems(broken: InvalidFile, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"problems": [vars(problem) for problem in broken.problems]}))
    else:
        for problem in broken.problems:
            print(problem)


def _write_eigenbasis(playbook: Playbook, file: Path) -> None:
    if basis := StageModel(playbook.model).held_eigenbasis():
        body = json.loads(file.read_text()) | {"eigenbasis": basis.model_dump()}
        file.write_text(json.dumps(body, indent=1) + "\n")


def _lacks_eigenbasis(playbook: Playbook) -> bool:
    """Whether the model needs an eigenbasis, and the file holds none of these parameters."""
    held = playbook.model.eigenbasis
    is_stale = held is None or held.of != playbook.model.parameters_hash
    return is_stale and StageModel(playbook.model).basis is not None
