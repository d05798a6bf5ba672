"""What types alone do not show: references to nothing, loops, expressions that cannot be read."""

import re
from collections.abc import Iterable

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError

from services.shared.playbook import senders
from services.shared.playbook.sections import Content, Playbook


def contradictions(playbook: Playbook) -> Iterable[tuple[tuple[int | str, ...], str, str]]:
    """Yields (path, what, remedy) of everything that types alone do not show."""
    stages, items = set(playbook.stages), playbook.content_by_id
    personas = {persona.id for persona in playbook.personas}
    if len(items) != len(playbook.content):
        seen: set[str] = set()
        for i, item in enumerate(playbook.content):
            if item.id in seen:
                yield (
                    ("content", i, "id"),
                    f"{item.id!r} is taken",
                    "Give every item an id of its own",
                )
            seen.add(item.id)
    for i, item in enumerate(playbook.content):
        for stage in sorted(set(item.stages) - stages):
            yield (
                ("content", i, "stages"),
                f"no stage {stage!r}",
                f"Use one of {', '.join(playbook.stages)}",
            )
        for persona in sorted(set(item.personas) - personas):
            yield ("content", i, "personas"), f"no persona {persona!r}", "Declare it under personas"
        for product in sorted(set(item.products) - set(playbook.products)):
            yield ("content", i, "products"), f"no product {product!r}", "Declare it under products"
        for needed in item.prerequisites:
            if needed not in items:
                yield (
                    ("content", i, "prerequisites"),
                    f"no content {needed!r}",
                    "Name an existing item's id",
                )
    for i, loop in _loops(playbook.content):
        chain = " -> ".join(loop)
        yield (
            ("content", i, "prerequisites"),
            f"a loop of prerequisites: {chain}",
            "Take one of them out",
        )
    for i, program in enumerate(playbook.programs):
        for j, name in enumerate(program.items):
            if name not in items:
                yield (
                    ("programs", i, "items", j),
                    f"no content {name!r}",
                    "Name an existing item's id",
                )
        for stage in sorted(set(program.stages) - stages):
            yield (
                ("programs", i, "stages"),
                f"no stage {stage!r}",
                f"Use one of {', '.join(playbook.stages)}",
            )
        if program.product not in playbook.products:
            yield (
                ("programs", i, "product"),
                f"no product {program.product!r}",
                "Declare it under products",
            )
        if program.trigger == "stage" and not (program.stages and program.items):
            yield ("programs", i), "neither stages nor items", "Give both, or `trigger: request`"
        for asked, name in program.answers.items():
            if name not in items:
                yield (
                    ("programs", i, "answers", asked),
                    f"no content {name!r}",
                    "Name an existing item's id",
                )
        for persona in sorted(set(program.personas) - personas):
            yield (
                ("programs", i, "personas"),
                f"no persona {persona!r}",
                "Declare it under personas",
            )
    for name, act in playbook.engagement.acts.items():
        if act.group not in playbook.engagement.groups:
            yield (
                ("engagement", "acts", name, "group"),
                f"no group {act.group!r}",
                "Declare it under engagement.groups",
            )
    known = {*playbook.model.rate, "given_send", None}
    for type_, mark in playbook.model.mark_of_type.items():
        if mark not in known and not str(mark).startswith("by the content's latest stage"):
            yield ("model", "mark_of_type", type_), f"no mark {mark!r}", "Use a mark that has rates"
    if playbook.crm.fields and not playbook.crm.system.strip():
        yield (
            ("crm",),
            "fields without a system",
            "Name the system whose external ids find the lead there, e.g. `hubspot`",
        )
    for name, expression in playbook.crm.fields.items():
        try:
            jmespath.search(expression, {})
        except JMESPathTypeError:
            pass  # of nothing; of a lead it may be right
        except JMESPathError as error:
            yield (
                ("crm", "fields", name),
                f"no JMESPath expression: {str(error).splitlines()[0]}",
                "Mend the expression",
            )
    yield from senders.contradictions(playbook.senders)
    for i, rule in enumerate(playbook.fit.rules):
        conditions = [rule.one_of, rule.matches, rule.at_least is not None,
        rule.at_most is not None,
                      rule.present is not None]  # fmt: skip
        if not any(conditions):
            yield (
                ("fit", "rules", i),
                "no condition",
                "Give one_of, matches, at_least, at_most or present",
            )
        try:
            re.compile(rule.matches)
        except re.error as error:
            yield (
                ("fit", "rules", i, "matches"),
                f"no regular expression: {error}",
                "Mend the expression",
            )


def _loops(content: list[Content]) -> Iterable[tuple[int, list[str]]]:
    """Yields (index, chain of ids) of each loop of prerequisites, once."""
    needs = {item.id: item.prerequisites for item in content}
    index = {item.id: i for i, item in enumerate(content)}
    done: set[str] = set()

    def walk(name: str, chain: list[str]) -> list[str] | None:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name in done or name not in needs:
            return None
        found = next(filter(None, (walk(other, [*chain, name]) for other in needs[name])), None)
        done.add(name)
        return found

    for item in content:
        if loop := walk(item.id, []):
            yield index[loop[0]], loop
