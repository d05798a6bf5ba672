"""The model file: parameters of the stage filter, which `model.json` holds."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import field_validator, model_validator

from services.shared.playbook.frozen import FrozenModel
from services.shared.playbook.learned import Learned

SENTENCES = {  # of older model files
    "by the content's latest stage": {"by_content": True},
    "by the content's latest stage, else visit": {"by_content": True, "otherwise": "visit"},
}


class GivenSend(FrozenModel):
    """Evidence of an answer to a mail: its probability by stage, within `days` of the send."""

    p: list[float]
    days: float


class Jump(FrozenModel):
    """How a mark moves the estimate towards a stage: from below (`up`) and from above (`down`)."""

    target: str
    up: float
    down: float


class Hysteresis(FrozenModel):
    """When the published stage follows the estimate; `dwell_down_days` before it goes down."""

    publish_at: float
    margin: float
    dwell_down_days: float


class MarkOfContent(FrozenModel):
    """The mark of the latest stage of the content that an act was about; `otherwise` where it was
    about none of ours.
    """

    by_content: Literal[True]
    otherwise: str | None = None


class Eigenbasis(FrozenModel):
    """V·diag(exp(values·Δ))·inverse = exp(D0·Δ), worked out once for the parameters whose hash is
    `of`.
    """

    of: str
    values: list[float]
    vectors: list[list[float]]
    inverse: list[list[float]]


class Model(FrozenModel):
    """Parameters of the stage filter; rates a day, stage by stage."""

    about: str = ""
    stages: list[str]
    outcome: str
    rate: dict[str, list[float]]
    jump: dict[str, Jump]
    drift: list[list[float]]
    hazard: list[float]
    start: list[float]
    kappa: float
    given_send: dict[str, GivenSend]
    hysteresis: Hysteresis
    review_days: list[float]
    same_mark_within_minutes: float
    mark_of_type: dict[str, str | MarkOfContent | None]
    horizon_days: float = 90
    eigenbasis: Eigenbasis | None = None
    learned: Learned | None = None

    @field_validator("mark_of_type", mode="before")
    @classmethod
    def _without_sentences(cls, marks: Any) -> Any:
        """Reads model files of the time when the rules by content were sentences."""
        if not isinstance(marks, Mapping):
            return marks
        return {
            type_: SENTENCES.get(mark, mark) if isinstance(mark, str) else mark
            for type_, mark in marks.items()
        }

    @model_validator(mode="after")
    def _shapes(self) -> "Model":
        k = len(self.stages)
        rows = {**self.rate, "hazard": self.hazard, "start": self.start}
        rows |= {f"given_send.{name}": given.p for name, given in self.given_send.items()}
        for name, row in rows.items():
            if len(row) != k:
                raise ValueError(f"{name} has {len(row)} numbers for {k} stages")
        if len(self.drift) != k or any(len(row) != k for row in self.drift):
            raise ValueError(f"drift is not {k} x {k}")
        if set(self.jump) != set(self.rate):
            raise ValueError("jump and rate name different marks")
        for name, jump in self.jump.items():
            if jump.target not in self.stages:
                raise ValueError(f"jump.{name}.target {jump.target!r} is no stage")
        if self.review_days != sorted(self.review_days):
            raise ValueError("review_days are not in ascending order")
        return self

    @property
    def version(self) -> str:
        """What tells models apart; '' of one that was written by hand."""
        return self.learned.version if self.learned else ""

    @cached_property
    def parameters_hash(self) -> str:
        """What the eigenbasis depends on."""
        parts = [self.stages, self.rate, self.drift, self.hazard, self.kappa]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
