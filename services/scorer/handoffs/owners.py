"""Whose a hand-off is: by the lead's own trait, account, who had it last, territory, or round
robin; and the reason in words. Pure.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from services.scorer.handoffs.records import Handoff as OneHandoff
from services.scorer.handoffs.working_time import WorkingTime
from services.shared.playbook.handoff import Handoff, Owner

LATELY = timedelta(days=28)  # that count in the round robin


class Load(NamedTuple):
    """What an owner has been given: lately, less those where nobody came, and this week."""

    lately: int = 0
    this_week: int = 0

    def plus(self, more: "Load", less: "Load | None" = None) -> "Load":
        """With more, without what there was less of."""
        lately, this_week = less or NONE
        return Load(self.lately + more.lately - lately, self.this_week + more.this_week - this_week)


NONE = Load()


class Counting(NamedTuple):
    """What counts as an owner's load: since the beginning of the week, and lately but for these
    reasons.
    """

    now: datetime
    week: datetime
    no_shows: Sequence[str] = ()

    def loads(self, handoffs: Iterable[OneHandoff]) -> dict[str, Load]:
        """By owner what these hand-offs count for."""
        loads: dict[str, Load] = {}
        for each in handoffs:
            at = each.opened_at
            if at and at > self.now - LATELY and each.owner and each.status != "superseded":
                one = Load(each.reason not in self.no_shows, at >= self.week)
                loads[each.owner] = loads.get(each.owner, NONE).plus(one)
        return loads


def changed(
    loads: Mapping[str, Load], before: Mapping[str, Load], after: Mapping[str, Load]
) -> dict[str, Load]:
    """Loads once some hand-offs, which counted for `before`, count for `after`."""
    return {
        owner: loads.get(owner, NONE).plus(after.get(owner, NONE), before.get(owner, NONE))
        for owner in loads.keys() | before.keys() | after.keys()
    }


class Asked(NamedTuple):
    """A hand-off that wants an owner: what is known of its lead, and who had it, or another lead
    of its company, last. `tried` were silent.
    """

    id: str
    now: datetime
    domain: str = ""
    traits: Mapping[str, Any] = {}
    last_owner: str = ""
    account_owner: str = ""
    tried: frozenset[str] = frozenset()
    is_urgent: bool = False


class Choice(NamedTuple):
    """An owner's mail address, '' where nobody can take it, and why."""

    owner: str
    why: str


class _Way(NamedTuple):
    """`why` is said of an owner to whom the way leads."""

    why: str
    leads_to: Callable[[Owner], bool]


NOBODY = Choice("", "the playbook names no owners")


def choose(rules: Handoff, company_zone: str, asked: Asked, loads: Mapping[str, Load]) -> Choice:
    """The first way that leads to somebody who is there and has room; of several who are reached
    by one way the one whose turn it is.
    """
    if not rules.owners:
        return NOBODY
    away: list[str] = []
    for way in _ways(rules, asked):
        owners = [owner for owner in rules.owners if way.leads_to(owner)]
        there = [
            owner for owner in owners if not _why_not(rules, company_zone, asked, owner, loads)
        ]
        if there:
            owner, turn = _whose_turn(rules, company_zone, asked, there, loads)
            why = way.why if len(there) == 1 and way.why else f"{way.why}{turn}"
            return Choice(owner.email, "; ".join([*away, why]))
        away += [
            f"{_name(owner)} {_why_not(rules, company_zone, asked, owner, loads)}"
            for owner in owners
            if way.why
        ]
    return Choice("", "; ".join([*away, "nobody is there who has room"]))


def _ways(rules: Handoff, asked: Asked) -> Sequence[_Way]:
    named = str(asked.traits.get(rules.owner_trait) or "").strip().casefold()
    return (
        _Way(
            f"the lead's {rules.owner_trait} is named",
            lambda owner: named in {owner.email.casefold(), owner.name.casefold()} - {""},
        ),
        _Way(
            f"has the account {asked.domain}",
            lambda owner: asked.domain in {name.lower() for name in owner.accounts} - {""},
        ),
        _Way("had the lead before", lambda owner: owner.email == asked.last_owner),
        _Way(
            "has another lead of the same company",
            lambda owner: owner.email == asked.account_owner,
        ),
        _Way("has the territory", lambda owner: _is_in_territory(owner, asked.traits)),
        _Way("", lambda owner: owner.weight > 0),
    )


def _is_in_territory(owner: Owner, traits: Mapping[str, Any]) -> bool:
    return any(
        str(traits.get(each.trait) or "").strip().casefold()
        in {value.strip().casefold() for value in each.one_of} - {""}
        for each in owner.territories
    )


def _why_not(
    rules: Handoff, zone: str, asked: Asked, owner: Owner, loads: Mapping[str, Load]
) -> str:
    """Why an owner cannot take it, '' where nothing speaks against it. Room in the week is not
    asked for where somebody waits for an answer.
    """
    today = asked.now.astimezone(WorkingTime.of(rules, zone, owner).zone).date()
    if owner.email in asked.tried:
        return "has not answered"
    if any(absence.first_day <= today <= absence.last_day for absence in owner.absent):
        return "is absent"
    full = owner.per_week is not None and (loads.get(owner.email, NONE).this_week >= owner.per_week)
    return "has no room this week" if full and not asked.is_urgent else ""


def _whose_turn(
    rules: Handoff, zone: str, asked: Asked, owners: Sequence[Owner], loads: Mapping[str, Load]
) -> tuple[Owner, str]:
    """Who has had least for their weight; what is urgent goes to somebody at work, if anybody
    is.
    """
    at_work = [owner for owner in owners if WorkingTime.of(rules, zone, owner).is_open(asked.now)]
    chosen = at_work if asked.is_urgent and at_work else owners

    def share(owner: Owner) -> tuple[float, bytes]:
        drawn = hashlib.sha256(f"{asked.id}:{owner.email}".encode()).digest()
        given = loads.get(owner.email, NONE).lately + 1
        return given / (owner.weight or 1), drawn

    owner = min(chosen, key=share)
    said = f"it is {_name(owner)}'s turn"
    if len(chosen) < len(owners):
        said += ", of those at work"
    return owner, said


def _name(owner: Owner) -> str:
    return owner.name or owner.email
