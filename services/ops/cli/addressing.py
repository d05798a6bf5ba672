"""The option `--system`, which says of which system a command is."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from services.ops.cli.options import say
from services.ops.commands.current import address

OPTION = "--system"


class AnywhereSystem(TyperGroup):
    """Takes `--system` before a command as well as behind it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Brings the option to the front."""
        front, rest, given = [], [], iter(args)
        for arg in given:
            if arg == "--":
                rest += [arg, *given]
            elif arg == OPTION:
                front += [arg, *([value] if (value := next(given, None)) is not None else [])]
            elif arg.startswith(f"{OPTION}="):
                front.append(arg)
            else:
                rest.append(arg)
        return super().parse_args(ctx, [*front, *rest])


def choose_system(
    context: typer.Context,
    system: Annotated[
        str,
        typer.Option(
            OPTION,
            envvar="RIPELINE_SYSTEM",
            metavar="DIR|URL",
            help="Of which running system, where there are several: the folder in which it was "
            "started, or an address of it. May stand behind the command.",
        ),
    ] = "",
) -> None:
    said: set[str] = set()

    def announce(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            say(sentence)

    address(system, announce)
    context.call_on_close(lambda: address())
