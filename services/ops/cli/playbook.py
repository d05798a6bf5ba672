"""`ripeline playbook`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from services.ops.cli.options import Json, say
from services.ops.commands import playbook as reading
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
    show: Annotated[
        bool, typer.Option("--show", help="Print every mail as a sample lead would get it.")
    ] = False,
    as_json: Json = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write the model's eigenbasis into model.json.")
    ] = False,
) -> None:
    """Report everything that is wrong in a playbook: file, line, what it is, how to mend it.

    Every mail is rendered for a sample lead of each persona. Exit code 1 where anything is wrong.

    Example: ripeline playbook check deploy/playbook --show
    """
    try:
        playbook = load(folder)
    except InvalidFile as broken:
        _print_problems(broken, folder, as_json=as_json)
        raise typer.Exit(1) from None
    if write:
        _write_eigenbasis(playbook, folder / "model.json")
    mails = reading.rendered(playbook)
    notes = reading.notes(playbook, datetime.now(UTC).date())
    if as_json:
        answer = {
            "problems": [],
            "content": len(playbook.content),
            "fold_hash": playbook.fold_hash,
            "rendered": [mail._asdict() for mail in mails] if show else len(mails),
            "notes": notes,
        }
        return print(json.dumps(answer))
    if show:
        _print_mails(mails)
    for note in notes:
        print(f"note: {note}")
    print(
        f"{folder.name}: {len(playbook.content)} items, {len(playbook.programs)} programs, "
        f"{len(mails)} mails rendered for {len(playbook.personas)} personas, no problems"
    )
    if not write and _lacks_eigenbasis(playbook):
        print(
            "model.json holds no eigenbasis of its parameters: run with --write, so that two "
            "machines agree bit for bit"
        )


def _print_problems(broken: InvalidFile, folder: Path, *, as_json: bool) -> None:
    if as_json:
        return print(json.dumps({"problems": [vars(problem) for problem in broken.problems]}))
    for problem in broken.problems:
        print(problem)
    count = len(broken.problems)
    say(f"{folder.name}: {count} {'problem' if count == 1 else 'problems'}")


def _print_mails(mails: list[reading.RenderedMail]) -> None:
    for mail in mails:
        print(f"=== {mail.content}, for {mail.persona}\nSubject: {mail.subject}\n\n{mail.text}")


def _write_eigenbasis(playbook: Playbook, file: Path) -> None:
    if basis := StageModel(playbook.model).held_eigenbasis():
        body = json.loads(file.read_text()) | {"eigenbasis": basis.model_dump()}
        file.write_text(json.dumps(body, indent=1) + "\n")


def _lacks_eigenbasis(playbook: Playbook) -> bool:
    """Whether the model needs an eigenbasis, and the file holds none of these parameters."""
    held = playbook.model.eigenbasis
    is_stale = held is None or held.of != playbook.model.parameters_hash
    return is_stale and StageModel(playbook.model).basis is not None
