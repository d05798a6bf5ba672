"""Rules of a playbook that never hold: numbers that exclude each other, what an earlier rule takes
altogether.
"""

from collections.abc import Iterable

from services.shared.playbook.contradiction import Contradiction
from services.shared.playbook.sections import Cadence, Exclusion, FitRule, Playbook
from services.shared.playbook.urls import plain_url

DAYS = "Write days from 0 (Monday) to 6 (Sunday)"


def never_holding(playbook: Playbook) -> Iterable[Contradiction]:
    """Yields every rule that nothing can fulfil."""
    for i, rule in enumerate(playbook.fit.rules):
        yield from _of_fit(("fit", "rules", i), rule)
    for i, exclusion in enumerate(playbook.exclusions):
        yield from _of_exclusion(("exclusions", i), exclusion)
    for i, persona in enumerate(playbook.personas[:-1]):
        if not persona.trait:
            yield Contradiction(
                ("personas", i),
                f"{persona.id!r} has no trait, and is not the last: no reader ever is it",
                "Give it a trait and an expression, or put it last",
            )
    yield from _of_cadence(playbook.cadence)
    yield from _of_states(playbook)
    yield from _of_pages(playbook)
    yield from _of_points(playbook)


def _of_fit(at: tuple[int | str, ...], rule: FitRule) -> Iterable[Contradiction]:
    if rule.at_least is not None and rule.at_most is not None and rule.at_least > rule.at_most:
        what = f"never holds: at least {rule.at_least:g} and at most {rule.at_most:g}"
        yield Contradiction((*at, "at_least"), what, "Exchange the two numbers")
    has_number = rule.at_least is not None or rule.at_most is not None
    given = {
        "present": rule.present is not None,
        "one_of": bool(rule.one_of),
        "matches": bool(rule.matches),
        "at_least or at_most": has_number,
    }
    several = [name for name, is_given in given.items() if is_given]
    if len(several) > 1:
        what = f"{' and '.join(several)}: of several conditions only the first one counts"
        yield Contradiction(at, what, "Give one condition, and write a rule for each other one")
    if rule.one_of and not any(word.strip() for word in rule.one_of):
        yield Contradiction((*at, "one_of"), "never holds: empty words", "Write the words")
    if rule.matches and rule.matches == rule.ignoring:
        what = "never holds: what it looks for is passed over"
        yield Contradiction((*at, "ignoring"), what, "Name there what is not to count")


def _of_exclusion(at: tuple[int | str, ...], rule: Exclusion) -> Iterable[Contradiction]:
    if bool(rule.trait) != bool(rule.one_of):
        missing, given = ("one_of", "trait") if rule.trait else ("trait", "one_of")
        what = f"never holds: {given} without {missing}"
        yield Contradiction(at, what, f"Give {missing} as well, or take {given} out")
    elif not (rule.domains or rule.emails or rule.trait):
        yield Contradiction(
            at, "never holds: no condition", "Give domains, emails, or trait and one_of"
        )


def _of_cadence(cadence: Cadence) -> Iterable[Contradiction]:
    at = ("cadence", "working_days")
    for i, day in enumerate(cadence.working_days):
        if not 0 <= day <= 6:
            yield Contradiction((*at, i), f"no day {day}", DAYS)
    if not cadence.working_days:
        yield Contradiction(at, "no day at all, so that nothing is ever sent", DAYS)
    if cadence.per_week < 1:
        what = f"at most {cadence.per_week} in a week, so that nothing is ever sent"
        remedy = "Write 1 or more; `ripeline nurture stop` stops sending"
        yield Contradiction(("cadence", "per_week"), what, remedy)


def _of_states(playbook: Playbook) -> Iterable[Contradiction]:
    in_test = any(playbook.state_of(program) == "test" for program in playbook.programs)
    if in_test and not playbook.test_addresses:
        what = "empty, so that what is in test reaches nobody"
        yield Contradiction(("test_addresses",), what, "Name the addresses that test mails go to")
    for i, address in enumerate(playbook.test_addresses):
        if "@" not in address:
            remedy = "Write addresses such as anna@example.com"
            yield Contradiction(("test_addresses", i), f"no address {address!r}", remedy)


def _of_pages(playbook: Playbook) -> Iterable[Contradiction]:
    """Yields pages that an earlier rule takes, and rules without any."""
    urls: dict[str, str] = {}
    forms: dict[str, str] = {}
    for i, rule in enumerate(playbook.pages):
        if not (rule.urls or rule.forms):
            yield Contradiction(("pages", i), "never holds: no address and no form", "Name one")
        for field, seen in (("urls", urls), ("forms", forms)):
            for j, name in enumerate(getattr(rule, field)):
                first = seen.setdefault(plain_url(name), rule.type)
                if first != rule.type:
                    what = f"never holds: {name!r} is {first!r} already"
                    yield Contradiction(("pages", i, field, j), what, "Keep one of the two")


def _of_points(playbook: Playbook) -> Iterable[Contradiction]:
    for name, rule in playbook.engagement.acts.items():
        at = ("engagement", "acts", name)
        if rule.limit < 1 or rule.days <= 0:
            what = f"never holds: {rule.limit} in {rule.days:g} days"
            yield Contradiction(at, what, "Write a limit of 1 or more, and days above 0")
