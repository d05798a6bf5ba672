"""The evidence question on a table, and on the archive: signals of leads by family."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from services.ingest.importing.mapping_file import MappingFile
from services.ops.learning import tables
from services.ops.learning.evaluation import all_refused
from services.ops.learning.mapping import QuestionMapping
from services.ops.learning.plots import Bar, bars
from services.ops.learning.rows import Progress
from services.ops.learning.tables import EventTable, LeadTable
from services.scorer.archive import Archive
from services.scorer.learning import company, families, leaks, moments, shares, signals
from services.scorer.learning.attributes import Column, column
from services.scorer.learning.episodes import PERSONAL, Traits, histories
from services.scorer.learning.families import CONTENT, of_act, of_trait
from services.scorer.learning.histories import History, I
from services.scorer.learning.moments import Moments
from services.scorer.learning.signals import Signals
from services.scorer.model.readings import word
from services.scorer.model.stage_filter import StageModel
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook

LEAST_LEADS, LEAST_OUTCOMES = 60, 20
LEAST_SHARE = 0.02  # of the moments, at which a trait is known
RANK = "rank by job title"
BREADTH = "breadth"

Refused = Sequence[dict[str, Any]]


class Question(NamedTuple):
    """Signals, what each family is made of, and whether accounts are held out together."""

    signals: Signals
    counted_as: dict[str, list[str]]
    by_account: bool
    refused: Refused = ()


def of_table(path: Path, written: MappingFile, progress: Progress) -> tuple[Question, Counter[str]]:
    """The signals of a table, and what was passed over. Raises Reject for what cannot answer."""
    mapping = written.mapping
    assert isinstance(mapping, QuestionMapping)
    table = tables.read(path, written, progress)
    content = frozenset(mapping.content)
    _check_content(content, table)
    if isinstance(table, LeadTable):
        return _of_leads(table, mapping, content), table.skipped
    when = moments.moments(
        table.histories, mapping.landmarks, mapping.horizon, table.until, np.random.default_rng(0)
    )
    made = [of_act(mark, content) for mark in table.marks]
    who = np.arange(len(table.histories))
    group = groups([*table.accounts], who)
    when = when.only(shares.sampled(group[when.lead], np.random.default_rng(0)))
    traits = tables.traits_at(table, who, when)
    found = _of_moments(
        table.histories, table.marks, made, table.accounts, group, when, traits, content
    )
    return found, table.skipped


def of_archive(playbook: Playbook, archive: Archive) -> Question:
    """The signals of the archive's episodes. Raises Reject."""
    found = archive.found
    model = StageModel(playbook.model)
    own = histories(found)
    marks = model.signals
    acts = {*model.marks, *model.model.given_send}
    made = [_of_mark(playbook, mark) if mark in acts else "" for mark in marks]
    own = [each._replace(marks=each.marks % model.shared_offset) for each in own]
    rng = np.random.default_rng(0)
    accounts = [each.account.casefold() for each in found]
    group = groups(accounts, np.array([each.lead for each in found], np.int64))
    rows = company.rows_of(found, playbook.model.horizon_days, archive.until, rng)
    some = shares.sampled(group[rows.when.lead], rng)
    when = rows.when.only(some)
    traits = _traits([rows.traits[place] for place in some.tolist()])
    return _of_moments(own, marks, made, accounts, group, when, traits, frozenset())


def answer(question: Question, progress: Progress) -> dict[str, Any]:
    """The whole answer as JSON."""
    own = question.signals
    leads = np.unique(own.lead)
    head = {
        "n": len(own.outcome),
        "leads": len(leads),
        "groups": len(np.unique(own.group)),
        "grouped_by": "account" if question.by_account else "lead",
        "folds": shares.FOLDS,
        "outcomes": len(np.unique(own.lead[own.outcome])),
        "base": float(own.outcome.mean()),
    }
    found = shares.answer(own, progress)
    return (
        head
        | found
        | {
            "counted_as": question.counted_as,
            "refused_columns": list(question.refused),
            "answer": shares.in_words(found),
        }
    )


def drawn(found: dict[str, Any]) -> str:
    """The plot of an answer: nats of the parts, and of each family alone."""
    shown = [
        Bar(name, found[name]["nats"], found[name]["intervals"]["nats"], is_strong=True)
        for name in shares.PARTS
    ]
    shown += [
        Bar(f"{each['signal']} alone", each["nats"], each["intervals"]["nats"])
        for each in found["signals"]
    ]
    return bars("What predicts the outcome", "nats a prediction, 95 % intervals", shown)


def groups(accounts: Sequence[str], leads: I) -> I:
    """A number for each account, and for each lead without one."""
    known: dict[tuple[str, int], int] = {}
    return np.array([
        known.setdefault((account, -1) if account else ("", int(lead)), len(known))
        for account, lead in zip(accounts or [""] * len(leads), leads, strict=True)
    ], np.int64)  # fmt: skip


def _of_moments(
    own: Sequence[History],
    marks: Sequence[str],
    made: Sequence[str],
    accounts: Sequence[str],
    group: I,
    when: Moments,
    traits: Sequence[Column],
    content: frozenset[str],
) -> Question:
    if not len(when.lead):
        raise Reject(
            "no moment has its horizon inside the table",
            where="horizon",
            remedy="take a shorter `horizon`, earlier `landmarks`, or a longer table",
        )
    values, family = signals.of_acts(own, made, when)
    by_account = any(accounts)
    if by_account:
        others = signals.breadth(own, accounts, when)
        values = np.column_stack([values, others])
        family += [BREADTH] * others.shape[1]
    used = np.array([bool(name) for name in family]) & (values.std(0) > 0)
    of_traits = [(of_trait(each.name, content), each) for each in _ranked(traits)]
    counted = _counted(zip(made, marks, strict=True), of_traits)
    if by_account:
        counted.setdefault(BREADTH, []).append("others of the account who act")
    counted.setdefault(signals.PACE, []).append("number and pace of acts without content")
    found = Signals(
        values[:, used], [name for name, is_used in zip(family, used, strict=True) if is_used],
        of_traits, group[when.lead], when.outcome, when.lead,
    )  # fmt: skip
    _check(found, [*marks], [name for each in CONTENT for name in counted.get(each, ())])
    return Question(found, counted, by_account)


def _of_leads(table: LeadTable, mapping: QuestionMapping, content: frozenset[str]) -> Question:
    findings = leaks.find(table.columns, table.outcome, frozenset(mapping.known_at_capture))
    refused = {finding.column for finding in findings.refused}
    kept = [each for each in table.columns if each.name not in refused]
    if not kept:
        raise all_refused()
    of_traits = [(of_trait(each.name, content), each) for each in _ranked(kept)]
    _, leads = np.unique(np.array(table.keys, dtype=str), return_inverse=True)
    group = groups(table.accounts, leads)
    found = Signals(
        np.zeros((len(leads), 0)), [], of_traits, group, table.outcome, leads,
    )  # fmt: skip
    _check(found, [each.name for each in kept], [])
    named = [
        {"column": each.column, "reason": each.reason, "auc_alone": each.auc_alone}
        for each in findings.refused
    ]
    return Question(found, _counted((), of_traits), any(table.accounts), named)


def _counted(acts: Any, traits: Sequence[tuple[str, Column]]) -> dict[str, list[str]]:
    """The names in each family."""
    out: dict[str, list[str]] = {}
    for family, name in [*acts, *((family, each.name) for family, each in traits)]:
        if family:
            out.setdefault(family, []).append(name)
    return {name: out[name] for name in families.FAMILIES if name in out}


def _of_mark(playbook: Playbook, mark: str) -> str:
    """The family of a mark: by its name, else by those of the types that it stands for."""
    own = of_act(mark)
    if own != "other acts":
        return own
    types = (type_ for type_, of in playbook.model.mark_of_type.items() if of == mark)
    return next((found for each in types if (found := of_act(each)) != own), own)


def _traits(known: Sequence[Traits]) -> list[Column]:
    """Traits as columns over moments, those that are known at enough of them."""
    counts = Counter(name for each in known for name, value in each.items() if word(value))
    least = LEAST_SHARE * len(known)
    return [
        column(name, [word(each.get(name)) for each in known])
        for name, count in sorted(counts.items())
        if count >= least and name not in PERSONAL and not name.startswith("_")
    ]


def _ranked(columns: Sequence[Column]) -> list[Column]:
    """The columns, and beside a job title in words how senior it is."""
    out = list(columns)
    for each in columns:
        if of_trait(each.name) == "seniority" and each.numbers is None:
            ranks = [families.seniority(word_) for word_ in each.words]
            known = list(dict.fromkeys(ranks))
            places = np.array([*(known.index(rank) for rank in ranks), -1], np.int64)
            out.append(Column(f"{RANK} ({each.name})", places[each.codes], known))
    return out


def _check_content(content: frozenset[str], table: EventTable | LeadTable) -> None:
    names = table.marks if isinstance(table, EventTable) else [c.name for c in table.columns]
    known = {"_".join(families.words(name)) for name in names}
    for name in sorted(content):
        if "_".join(families.words(name)) not in known:
            raise Reject(
                f"{name!r} is neither a type nor a column of the table",
                where="content",
                remedy=f"there are {', '.join(names[:40])}",
            )


def _check(found: Signals, names: Sequence[str], content: Sequence[str]) -> None:
    """Raises Reject where the question cannot be answered; `content` are names that count as it."""
    known = {*found.family, *(family for family, _ in found.traits)} - {signals.AGE}
    if content and not known & set(CONTENT):
        raise Reject(
            f"{', '.join(content)}: at the moments of prediction all leads have done as much of it",
            where="content",
            remedy="name what people consume before the outcome, or later `landmarks`",
        )
    if not known & set(CONTENT):
        raise Reject(
            f"nothing here is known as content consumption: there are {', '.join(names[:40])}",
            where="content",
            remedy="name what people read, watch or download under `content` in the mapping",
        )
    if not known - set(CONTENT):
        raise Reject(
            "everything here is content consumption: no other signal to compare it with",
            where="content",
            remedy="bring what people say, who they are, or replies and meetings",
        )
    leads, with_ = len(np.unique(found.lead)), len(np.unique(found.lead[found.outcome]))
    if leads < LEAST_LEADS or with_ < LEAST_OUTCOMES or found.outcome.all():
        raise Reject(
            f"{with_} of {leads} leads have the outcome: too few to answer with an interval",
            where="outcome",
            remedy=f"bring at least {LEAST_LEADS} leads, and {LEAST_OUTCOMES} with the outcome",
        )
    if len(np.unique(found.group)) < 2 * shares.FOLDS:
        raise Reject(
            f"there are {len(np.unique(found.group))} accounts: too few to hold some of them out",
            where="account",
            remedy=f"bring at least {2 * shares.FOLDS}, or name another column",
        )
