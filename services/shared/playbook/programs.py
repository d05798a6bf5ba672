"""Programs: series of items, who enters and leaves them, their pace, and what follows a loss."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from services.shared.playbook.frozen import FrozenModel

State = Literal["draft", "test", "live"]
STATES: tuple[State, ...] = ("draft", "test", "live")
Lost = Literal["disqualified", "rejected", "returned", "lost", "refunded", "churned"]
Reported = Lost | Literal["accepted", "opportunity", "won"]


class Pace(FrozenModel):
    """Days between two touches of a program: `usual` until the lead has answered, then as fast as
    it answers, within `least` and `most`.
    """

    least: float = Field(2, gt=0, le=365)
    usual: float = Field(7, gt=0, le=365)
    most: float = Field(30, gt=0, le=365)


class Silence(FrozenModel):
    """What touches without an answer do: after `slower` of them the pace is halved, after `other`
    the angle changes, after `pause` nothing comes for `days`.
    """

    slower: int = Field(3, ge=1, le=100)
    other: int = Field(4, ge=1, le=100)
    pause: int = Field(5, ge=1, le=100)
    days: float = Field(90, gt=0, le=1000)


class Exit(FrozenModel):
    """What ends a program for a lead: its goal, items whose call to action is done; stages that are
    reached; what sales reports.
    """

    done: list[str] = []
    stages: list[str] = []
    sales: list[Reported] = []


class Entry(FrozenModel):
    """What a lead must have done to enter, beside its stage, product and persona."""

    done: list[str] = []


class Reentry(FrozenModel):
    """Whether who has left comes back, and after how many days at the earliest. It goes on where it
    stood; who has reached the goal does not come back.
    """

    allowed: bool = True
    after_days: float = Field(0, ge=0, le=1000)


class Program(FrozenModel):
    """A series of items in the author's order, for a product and personas.

    One whose `purpose` is promotion or sales waits for the hand-off. With `trigger: request` it
    hands over what a lead asked for, at once: an item of it by its form, or what `answers` names
    for a type of act.
    """

    id: str
    name: str
    goal: str
    state: State = "live"
    product: str = "default"
    personas: list[str] = []
    trigger: Literal["stage", "request"] = "stage"
    answers: dict[str, str] = {}
    stages: list[str] = []
    channel: Literal["email", "webhook", "call"] = "email"
    purpose: Literal["", "education", "product", "promotion", "sales"] = ""
    choice: Literal["author", "learned"] = "author"
    items: list[str] = []
    entry: Entry = Entry()
    exit: Exit = Exit()
    reentry: Reentry = Reentry()
    pace: Pace = Pace()
    silence: Silence = Silence()


class AfterLoss(FrozenModel):
    """What follows when sales reports one of `sales`, for one of `reasons` (none: any other).

    `wait` lets `days` pass, from the day on that sales named where it did; `education` sends items
    of distance 0 and 1 alone; `nothing` ends it; `go_on` changes nothing.
    """

    sales: list[Lost] = Field(min_length=1)
    reasons: list[str] = []
    then: Literal["nothing", "wait", "education", "go_on"]
    days: float = Field(0, ge=0, le=3660)


DEFAULT_AFTER_LOSS = [
    AfterLoss(
        sales=["disqualified", "rejected", "returned", "lost"],
        reasons=["bad_timing"],
        then="wait",
        days=90,
    ),
    AfterLoss(
        sales=["disqualified", "lost", "refunded", "churned"],
        reasons=["competitor", "student", "bad_data", "not_our_market"],
        then="nothing",
    ),
    AfterLoss(sales=["disqualified", "lost"], reasons=["no_budget"], then="education"),
    AfterLoss(sales=["refunded", "churned"], then="wait", days=180),
    AfterLoss(sales=["disqualified", "lost", "rejected", "returned"], then="go_on"),
]


def rule_after(rules: Sequence[AfterLoss], status: str, reason: str) -> AfterLoss | None:
    """The first rule for what sales reported; None where nothing was lost. Who was given back goes
    on where no rule says otherwise.
    """
    if not status:  # of nearly everybody
        return None
    plain = _plain(reason)
    for rule in rules:
        if status in rule.sales and (
            not rule.reasons or plain in {_plain(name) for name in rule.reasons}
        ):
            return rule
    return AfterLoss(sales=["returned"], then="go_on") if status == "returned" else None


def _plain(reason: str) -> str:
    return "_".join(reason.lower().replace("-", " ").replace("_", " ").split())
