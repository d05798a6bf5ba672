"""`ripeline mail`: whether mails can be expected to arrive."""

import json
from typing import Annotated

import typer

from services.ops.cli.options import Json, PlaybookFolder, say
from services.ops.commands.current import current_settings
from services.ops.commands.mail_check import mail_check
from services.ops.commands.names import names_of
from services.shared.playbook.loading import load

mail = typer.Typer(no_args_is_help=True, help="The set-up of mails.")
SIGNS = {"ok": "✓", "warning": "!", "error": "✗"}


@mail.callback()
def _group() -> None:
    """Keeps `check` a command of a group."""


@mail.command()
def check(
    playbook: PlaybookFolder = None,
    resolver: Annotated[
        str, typer.Option(help="host:port of a name server, or a zone file.", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Examine SPF, DKIM, DMARC, the return path, the postal address, the unsubscribe link and the
    items' links, before the first real mail goes out. Sends nothing.

    Asks the system's name server, or RIPELINE_RESOLVER. Exit code 1 where anything is wrong.

    Example: ripeline mail check
    """
    settings = current_settings()
    names = names_of(resolver or settings.resolver)
    found = mail_check(settings, load(playbook or settings.playbook), names)
    errors = sum(each.level == "error" for each in found)
    if as_json:
        findings = [each._asdict() for each in found]
        print(json.dumps({"ok": not errors, "errors": errors, "findings": findings}))
    else:
        for each in found:
            print(f"{SIGNS[each.level]} {each.check}: {each.what}\n    at {each.where}")
            if each.remedy:
                print(f"    {each.remedy}")
        say(f"{errors} errors" if errors else "nothing is wrong")
    if errors:
        raise typer.Exit(1)
