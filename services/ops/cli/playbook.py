"""`ripeline playbook`."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from services.ops.cli.options import Json, end, say
from services.ops.commands import new_playbook
from services.ops.commands import playbook as reading
from services.scorer.model.stage_filter import StageModel
from services.shared.errors import Reject
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


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="A folder that is new or empty.")],
    company: Annotated[str | None, typer.Option(help="Its name.")] = None,
    website: Annotated[str | None, typer.Option(help="Its website.")] = None,
    address: Annotated[str | None, typer.Option(help="The postal address in each mail.")] = None,
    timezone: Annotated[str | None, typer.Option(help="E.g. Europe/Berlin.")] = None,
    language: Annotated[str | None, typer.Option(help="Two letters.")] = None,
    sells: Annotated[
        str | None, typer.Option(help=f"How people buy: {', '.join(new_playbook.KINDS)}.")
    ] = None,
    deciders: Annotated[
        str | None, typer.Option(help="Job titles that decide about the money, by commas.")
    ] = None,
    per_week: Annotated[int | None, typer.Option(help="Most mails a week, 1 to 7.")] = None,
    answers: Annotated[
        str,
        typer.Option(help="JSON with the answers by the options' names: a file, or - for stdin."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a playbook by eight questions: company, website, address, time zone, language, how
    people buy, who decides, how many mails a week.

    What is given as an option or in `--answers` is not asked; with `--json` nothing is, and what is
    missing takes its default. The playbook has real texts in every stage, marked as samples, and
    passes `playbook check`.

    Example: ripeline playbook new my-playbook --company Acme --sells trial
    """
    options: dict[str, Any] = {
        "company": company, "website": website, "address": address, "timezone": timezone,
        "language": language, "sells": sells, "deciders": deciders, "per_week": per_week,
    }  # fmt: skip
    given = _answers(answers) | {name: it for name, it in options.items() if it is not None}
    if not as_json and answers != "-":
        given = _asked(given)
    chosen = new_playbook.read(given)
    made = new_playbook.create(folder, chosen)
    load(folder)  # what it makes is sound, or this is a fault of ours
    if as_json:
        return print(json.dumps({"folder": str(folder), "files": made, "problems": []}))
    print(f"{folder} holds a playbook; playbook.yaml says what to do next")


def _answers(place: str) -> dict[str, Any]:
    """The answers of a file of JSON, or of stdin."""
    if not place:
        return {}
    try:
        found = json.loads(sys.stdin.read() if place == "-" else Path(place).read_text("utf-8"))
    except (OSError, ValueError) as error:
        end(f"--answers: not readable: {error}; give a JSON object", 2)
    if not isinstance(found, dict):
        end("--answers: give a JSON object", 2)
    return found


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """What is given, with answers to the questions that are left; a wrong answer is asked again."""
    defaults, answered = new_playbook.Answers(), dict(given)
    for name, question in new_playbook.QUESTIONS.items():
        while name not in given:
            answer = typer.prompt(question, default=getattr(defaults, name), err=True)
            try:
                new_playbook.read({name: answer})
            except Reject as problem:
                say(str(problem))
            else:
                answered[name] = answer
                break
    return answered


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
