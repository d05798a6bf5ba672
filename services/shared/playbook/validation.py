"""What types alone do not show: references to nothing, loops, texts and expressions that cannot be
read, rules that never hold.
"""

from collections.abc import Iterable

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError

from services.shared.playbook import mail_html, mail_text, senders
from services.shared.playbook.contradiction import Contradiction, did_you_mean
from services.shared.playbook.patterns import pattern_problem
from services.shared.playbook.programs import Program
from services.shared.playbook.reachability import never_holding
from services.shared.playbook.sections import Content, FitRule, Persona, Playbook
from services.shared.playbook.stage_model import MarkOfContent

Path = tuple[int | str, ...]


def contradictions(playbook: Playbook) -> Iterable[Contradiction]:
    """Yields everything that does not fit together."""
    yield from _of_content(playbook)
    for i, program in enumerate(playbook.programs):
        yield from _of_program(playbook, ("programs", i), program)
    yield from _of_engagement(playbook)
    yield from _of_model(playbook)
    yield from _of_crm(playbook)
    yield from senders.contradictions(playbook.senders)
    yield from _of_fit(playbook)
    for i, persona in enumerate(playbook.personas):
        yield from _unreadable_patterns(("personas", i), persona)
    yield from never_holding(playbook)
    yield from _of_losses(playbook)
    yield from _of_audiences(playbook)
    yield from _of_handoff(playbook)
    yield from _taken(playbook)


def _taken(playbook: Playbook) -> Iterable[Contradiction]:
    """Yields ids that stand twice."""
    for section in ("personas", "programs", "audiences"):
        seen: set[str] = set()
        for i, part in enumerate(getattr(playbook, section)):
            if part.id in seen:
                yield Contradiction((section, i, "id"), f"{part.id!r} is taken", "Choose another")
            seen.add(part.id)


def _of_audiences(playbook: Playbook) -> Iterable[Contradiction]:
    programs = [program.id for program in playbook.programs]
    for i, audience in enumerate(playbook.audiences):
        at = ("audiences", i)
        if audience.purpose == "suppression" and audience.has_filter:
            what = "a suppression list holds all who refused, so it has no filter"
            yield Contradiction((*at, "purpose"), what, "Take the filters out")
        yield from _unknown_stages(playbook, at, audience.stages)
        yield from _unknown_personas(playbook, at, audience.personas)
        for product in sorted({*audience.products} - {*playbook.products}):
            yield _unknown_product(playbook, (*at, "products"), product)
        for program in sorted({*audience.programs} - {*programs}):
            remedy = f"{did_you_mean(program, programs)}Name the id of a program"
            yield Contradiction((*at, "programs"), f"no program {program!r}", remedy)


def _of_content(playbook: Playbook) -> Iterable[Contradiction]:
    seen: set[str] = set()
    for i, item in enumerate(playbook.content):
        if item.id in seen:
            remedy = "Give every item an id of its own"
            yield Contradiction(("content", i, "id"), f"{item.id!r} is taken", remedy)
        seen.add(item.id)
    for i, item in enumerate(playbook.content):
        at = ("content", i)
        yield from _unknown_stages(playbook, at, item.stages)
        yield from _unknown_personas(playbook, at, item.personas)
        for product in sorted(set(item.products) - set(playbook.products)):
            yield _unknown_product(playbook, (*at, "products"), product)
        for needed in item.prerequisites:
            yield from _unknown_content(playbook, (*at, "prerequisites"), needed)
        for found in mail_text.problems_of_subject(item.subject):
            yield Contradiction((*at, "subject"), found.what, found.remedy)
        for found in mail_text.problems_of_body(item.body):
            yield Contradiction((*at, "body"), found.what, found.remedy, below=found.line)
        if item.layout and item.layout not in playbook.mails:
            remedy = f"{did_you_mean(item.layout, playbook.mails)}Put it into {mail_html.FOLDER}/"
            yield Contradiction((*at, "layout"), f"no file {item.layout!r}", remedy)
    for name, source in playbook.mails.items():
        for found in mail_html.problems_of_layout(name, source):
            path = (mail_html.FOLDER, name)
            yield Contradiction(path, found.what, found.remedy, below=found.line)
    for i, loop in _loops(playbook.content):
        what = f"a loop of prerequisites: {' -> '.join(loop)}"
        yield Contradiction(("content", i, "prerequisites"), what, "Take one of them out")


def _of_program(playbook: Playbook, at: Path, program: Program) -> Iterable[Contradiction]:
    for j, name in enumerate(program.items):
        yield from _unknown_content(playbook, (*at, "items", j), name)
    yield from _unknown_stages(playbook, at, program.stages)
    yield from _of_membership(playbook, at, program)
    if program.product not in playbook.products:
        yield _unknown_product(playbook, (*at, "product"), program.product)
    if program.trigger == "stage" and not (program.stages and program.items):
        remedy = "Give both, or `trigger: request`"
        yield Contradiction(at, "neither stages nor items", remedy)
    for type_, name in program.answers.items():
        yield from _unknown_content(playbook, (*at, "answers", type_), name)
    yield from _unknown_personas(playbook, at, program.personas)


def _of_membership(playbook: Playbook, at: Path, program: Program) -> Iterable[Contradiction]:
    """Who enters and what ends it; a pace and a silence whose numbers are in order."""
    yield from _unknown_stages(playbook, (*at, "exit"), program.exit.stages)
    for part, names in (("entry", program.entry.done), ("exit", program.exit.done)):
        for j, name in enumerate(names):
            yield from _unknown_content(playbook, (*at, part, "done", j), name)
    pace, silence = program.pace, program.silence
    if not pace.least <= pace.usual <= pace.most:
        what = f"least {pace.least:g}, usual {pace.usual:g}, most {pace.most:g} are out of order"
        yield Contradiction((*at, "pace"), what, "Write them so that none is above the next")
    if not silence.slower <= silence.other <= silence.pause:
        what = f"slower {silence.slower}, other {silence.other}, pause {silence.pause} go down"
        yield Contradiction((*at, "silence"), what, "Write them so that none is above the next")


def _unknown_stages(playbook: Playbook, at: Path, stages: list[str]) -> Iterable[Contradiction]:
    for stage in sorted(set(stages) - set(playbook.stages)):
        remedy = f"{did_you_mean(stage, playbook.stages)}Use one of {', '.join(playbook.stages)}"
        yield Contradiction((*at, "stages"), f"no stage {stage!r}", remedy, "model")


def _unknown_personas(playbook: Playbook, at: Path, personas: list[str]) -> Iterable[Contradiction]:
    known = [persona.id for persona in playbook.personas]
    for persona in sorted(set(personas) - {*known}):
        remedy = f"{did_you_mean(persona, known)}Declare it under personas"
        yield Contradiction((*at, "personas"), f"no persona {persona!r}", remedy, "personas")


def _unknown_content(playbook: Playbook, path: Path, name: str) -> Iterable[Contradiction]:
    if name not in playbook.content_by_id:
        remedy = f"{did_you_mean(name, playbook.content_by_id)}Name an existing item's id"
        yield Contradiction(path, f"no content {name!r}", remedy, "content")


def _unknown_product(playbook: Playbook, path: Path, product: str) -> Contradiction:
    remedy = f"{did_you_mean(product, playbook.products)}Declare it under products"
    return Contradiction(path, f"no product {product!r}", remedy, "products")


def _of_engagement(playbook: Playbook) -> Iterable[Contradiction]:
    groups = playbook.engagement.groups
    for name, act in playbook.engagement.acts.items():
        if act.group not in groups:
            path = ("engagement", "acts", name, "group")
            remedy = f"{did_you_mean(act.group, groups)}Declare it under engagement.groups"
            yield Contradiction(path, f"no group {act.group!r}", remedy, "engagement")


def _of_model(playbook: Playbook) -> Iterable[Contradiction]:
    known = {*playbook.model.rate, "given_send", None}
    for type_, mark in playbook.model.mark_of_type.items():
        name = mark.otherwise if isinstance(mark, MarkOfContent) else mark
        if name not in known:
            path = ("model", "mark_of_type", type_)
            remedy = f"{did_you_mean(name, playbook.model.rate)}Use a mark that has rates"
            yield Contradiction(path, f"no mark {name!r}", remedy, "model")


def _of_crm(playbook: Playbook) -> Iterable[Contradiction]:
    if playbook.crm.fields and not playbook.crm.system.strip():
        yield Contradiction(
            ("crm",),
            "fields without a system",
            "Name the system whose external ids find the lead there, e.g. `hubspot`",
        )
    for name, expression in playbook.crm.fields.items():
        try:
            jmespath.search(expression, {})
        except JMESPathTypeError:
            pass  # it is tried on nothing; on a lead it may be right
        except JMESPathError as error:
            what = f"no JMESPath expression: {str(error).splitlines()[0]}"
            yield Contradiction(("crm", "fields", name), what, "Mend the expression")


def _of_losses(playbook: Playbook) -> Iterable[Contradiction]:
    """Rules that an earlier one takes altogether, and waits of no time."""
    taken: set[str] = set()
    for i, rule in enumerate(playbook.after_loss):
        at: Path = ("after_loss", i)
        if taken.issuperset(rule.sales):
            what = f"never holds: an earlier rule takes all of {', '.join(rule.sales)}"
            yield Contradiction(at, what, "Put the rule without reasons last")
        if not rule.reasons:
            taken |= {*rule.sales}
        if rule.then == "wait" and not rule.days:
            yield Contradiction(at, "waits for no days", "Give `days`, or `then: go_on`")


def _of_handoff(playbook: Playbook) -> Iterable[Contradiction]:
    for i, stage in enumerate(playbook.handoff.ready_stages):
        if stage not in playbook.model.stages:
            known = playbook.model.stages
            remedy = f"{did_you_mean(stage, known)}Use one of {', '.join(known)}"
            yield Contradiction(("handoff", "ready_stages", i), f"no stage {stage!r}", remedy)


def _of_fit(playbook: Playbook) -> Iterable[Contradiction]:
    for i, rule in enumerate(playbook.fit.rules):
        at = ("fit", "rules", i)
        numbers = (rule.at_least, rule.at_most, rule.present)
        if not (rule.one_of or rule.matches or any(given is not None for given in numbers)):
            remedy = "Give one_of, matches, at_least, at_most or present"
            yield Contradiction(at, "no condition", remedy)
        yield from _unreadable_patterns(at, rule)


def _unreadable_patterns(at: Path, rule: FitRule | Persona) -> Iterable[Contradiction]:
    for name in ("matches", "ignoring"):
        if problem := pattern_problem(getattr(rule, name)):
            yield Contradiction((*at, name), problem.what, problem.remedy)


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
