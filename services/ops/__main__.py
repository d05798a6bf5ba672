"""`ripeline`: the command line."""

import logging
import sys
from importlib.util import find_spec

import structlog
import typer

from services.ops.cli import (
    audience,
    audit,
    channels,
    choice,
    content,
    evaluate,
    evidence,
    filtering,
    handoffs,
    importing,
    keys,
    leads,
    lift,
    mail,
    model,
    people,
    planned,
    playbook,
    rehearse,
    reports,
    sending,
    sources,
    system,
)
from services.ops.cli.addressing import AnywhereSystem, choose_system
from services.ops.cli.options import own_process
from services.shared.db import is_away, refusal_of
from services.shared.errors import Reject, Retry
from services.shared.logs import configure_logs
from services.shared.playbook.loading import InvalidFile

log = structlog.get_logger()
app = typer.Typer(
    name="ripeline",
    cls=AnywhereSystem,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ripeline turns warm leads into sales-ready ones. Begin with `ripeline demo`; see "
    "`COMMAND --help`.",
)
app.callback()(choose_system)
# production images hold no embedded parts
if find_spec("aiosmtpd") and find_spec("confluent_kafka"):
    from services.ops.cli import demo, up

    app.command()(up.up)
    app.command()(demo.demo)
for command in (
    system.settings, system.provision, system.status, system.gaps, system.verify, system.reviews,
):  # fmt: skip
    app.command()(command)
app.command("choice")(choice.choice)
app.command("import", help=importing.HELP)(importing.import_file)
app.command(help=evaluate.HELP)(evaluate.evaluate)
app.command(help=evidence.HELP)(evidence.evidence)
app.command("filter", help=filtering.HELP)(filtering.filter_events)
app.command(help=model.HELP)(model.learn)
app.command()(model.forecast)
app.add_typer(model.app, name="model")
app.command(help=lift.HELP)(lift.lift)
app.add_typer(reports.app, name="report")
app.command("rehearse", help=rehearse.HELP)(rehearse.rehearse_playbook)
app.add_typer(playbook.app, name="playbook")
app.add_typer(sending.nurture, name="nurture")
app.add_typer(planned.app, name="planned")
app.add_typer(content.app, name="content")
app.add_typer(audience.app, name="audience")
app.add_typer(handoffs.app, name="handoffs")
app.add_typer(sending.brake, name="brake")
sending.lead.command("show")(leads.show)
app.add_typer(sending.lead, name="lead")
app.add_typer(sending.spool, name="spool")
app.add_typer(channels.channel, name="channel")
app.add_typer(mail.mail, name="mail")
app.add_typer(sources.app, name="sources")
app.add_typer(keys.app, name="keys")
app.add_typer(people.app, name="people")
app.command()(audit.audit)


def main() -> None:
    """The console script: errors that people can mend come as sentences."""
    own_process()
    configure_logs("ops", "warning")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it meets comes as a sentence
    try:
        app()
    except (Reject, Retry, InvalidFile) as error:
        sys.exit(str(error))
    except Exception as error:
        if refusal := refusal_of(error):
            sys.exit(str(refusal))
        if is_away(error):
            sys.exit(
                f"the database does not answer: {type(error).__name__}; is it running, "
                "and is RIPELINE_DATABASE_URL right?"
            )
        log.error("command_failed", exc_info=error)  # a fault of ours, without personal data
        sys.exit(1)


if __name__ == "__main__":
    main()
