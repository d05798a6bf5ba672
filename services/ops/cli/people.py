"""`ripeline people`."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from services.ops.cli.options import Json, say, whole_table, with_engine
from services.ops.commands import people
from services.ops.commands.current import current_settings
from services.ops.commands.people import Invited, KnownPerson
from services.shared.people.roles import Role

app = typer.Typer(
    no_args_is_help=True,
    help="People who sign in to the pages: marketing, sales and admin. Machines use `ripeline "
    "keys`.",
)
Who = Annotated[str, typer.Argument(help="The mail address, or the id, of `ripeline people list`.")]
NoMail = Annotated[
    bool, typer.Option("--link", help="Print the link that signs in, instead of mailing it.")
]
GivenRole = Annotated[
    Role,
    typer.Option(
        help="marketing: content, imports, programs, the brake; sales: answers on leads; admin: "
        "all, and people."
    ),
]


@app.command()
def add(
    mail: Annotated[str, typer.Argument(help="Where links to sign in go.")],
    name: Annotated[
        str, typer.Option(help="As pages and the audit log show it; else what stands before the @.")
    ] = "",
    role: GivenRole = "sales",
    link: NoMail = False,
    as_json: Json = False,
) -> None:
    """Add a person and mail a link to sign in; without a mail server the link is printed. Somebody
    who was disabled may sign in again.

    Example: ripeline people add anna@example.com --name "Anna Berg" --role admin
    """
    settings, name = current_settings(), name or mail.partition("@")[0]
    invited = with_engine(
        lambda engine: people.add(engine, settings, name, mail, role, by_mail=not link)
    )
    _show(invited, f"{invited.person.name} is added as {invited.person.role}", as_json=as_json)


@app.command("list")
def list_people(as_json: Json = False) -> None:
    """List everybody, with their role and when they last signed in.

    Example: ripeline people list
    """
    found = with_engine(people.everybody)
    if as_json:
        return print(json.dumps([person._asdict() for person in found]))
    table = whole_table("mail", "name", "role", "last signed in", "sessions", "state")
    for person in found:
        state = "disabled" if person.disabled_at else "may sign in"
        last = _to_the_minute(person.signed_in_at)
        table.add_row(person.mail, person.name, person.role, last, str(person.sessions), state)
    return Console().print(table)


@app.command()
def disable(who: Who, as_json: Json = False) -> None:
    """End a person's sessions at once and let nobody sign in as them. What they did stays in the
    audit log. The last admin cannot be disabled.

    Example: ripeline people disable anna@example.com
    """
    person = with_engine(lambda engine: people.disable(engine, who))
    _say(person, f"{person.name} is disabled", as_json=as_json)


@app.command("role")
def set_role(
    who: Who, role: Annotated[Role, typer.Argument(help="The new role.")], as_json: Json = False
) -> None:
    """Give a person another role.

    Example: ripeline people role anna@example.com marketing
    """
    person = with_engine(lambda engine: people.set_role(engine, who, role))
    _say(person, f"{person.name} has the role {person.role}", as_json=as_json)


@app.command("link")
def make_link(who: Who, as_json: Json = False) -> None:
    """Print a link that signs a person in once, within 15 minutes.

    Example: ripeline people link anna@example.com
    """
    settings = current_settings()
    invited = with_engine(lambda engine: people.invite(engine, settings, who, by_mail=False))
    _show(invited, "", as_json=as_json)


@app.command("password")
def set_password(who: Who, as_json: Json = False) -> None:
    """Set a person's password: asked for, or the first line of stdin. Their sessions end.

    Example: ripeline people password anna@example.com
    """
    if sys.stdin.isatty():
        given = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    person = with_engine(lambda engine: people.set_password(engine, who, given))
    _say(person, f"{person.name} has a new password", as_json=as_json)


def _show(invited: Invited, sentence: str, *, as_json: bool) -> None:
    """A person with a link, or that it was mailed."""
    if as_json:
        link = {"link": invited.link or None, "mailed": invited.mailed}
        return print(json.dumps(invited.person._asdict() | link))
    if sentence:
        say(f"{sentence}.")
    if invited.mailed:
        say(f"A link to sign in was mailed to {invited.person.mail}.")
    if invited.why_not:
        say(f"No mail was sent: {invited.why_not}.")
    if invited.link:
        say("This link signs in once, within 15 minutes:")
        print(invited.link)


def _say(person: KnownPerson, sentence: str, *, as_json: bool) -> None:
    answer: Any = json.dumps(person._asdict()) if as_json else sentence
    print(answer)


def _to_the_minute(time: str | None) -> str:
    return (time or "")[:16].replace("T", " ")
