"""`ripeline`: the command line."""

import sys
from importlib.util import find_spec

import typer
from pydantic import ValidationError

from services.ops.cli import importing, keys, playbook, sending, sources, system
from services.shared.db import is_transient
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile
from services.shared.telemetry import configure_logs

app = typer.Typer(
    name="ripeline",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ripeline turns warm leads into sales-ready ones. Begin with `ripeline demo`; see "
    "`COMMAND --help`.",
)
# production images hold no embedded parts
if find_spec("aiosmtpd") and find_spec("confluent_kafka"):
    from services.ops.cli import demo, up

    app.command()(up.up)
    app.command()(demo.demo)
for command in (system.settings, system.provision, system.status, system.verify, system.reviews):
    app.command()(command)
app.command("import", help=importing.HELP)(importing.import_file)
app.add_typer(playbook.app, name="playbook")
app.add_typer(sending.brake, name="brake")
app.add_typer(sending.lead, name="lead")
app.add_typer(sending.spool, name="spool")
app.add_typer(sources.app, name="sources")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """The console script: errors that people can mend come as sentences."""
    configure_logs("ops", "warning")
    try:
        app()
    except ValidationError as error:
        problems = "; ".join(
            f"RIPELINE_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()
        )
        sys.exit(f"a setting is wrong: {problems}")
    except (Reject, InvalidFile) as error:
        sys.exit(str(error))
    except Exception as error:
        if is_transient(error):
            sys.exit(
                f"the database does not answer: {type(error).__name__}; is it running, "
                "and is RIPELINE_DATABASE_URL right?"
            )
        raise


if __name__ == "__main__":
    main()
