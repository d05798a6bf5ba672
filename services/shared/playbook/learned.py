"""What a model file holds beside the stage filter once it has been learned from outcomes."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from services.shared.playbook.frozen import FrozenModel


class Layer(FrozenModel):
    """logit p = intercept + Σ weight·(x − mean)/scale over numbers x of a lead's state, each kept
    between `low` and `high`, the range that was learned from; `names` say which.
    """

    intercept: float
    names: list[str]
    weight: list[float]
    mean: list[float]
    scale: list[float]
    low: list[float]
    high: list[float]

    @model_validator(mode="after")
    def _shapes(self) -> "Layer":
        columns = (self.weight, self.mean, self.scale, self.low, self.high)
        if {len(column) for column in columns} != {len(self.names)}:
            raise ValueError("weight, mean, scale, low and high need a number for every name")
        if any(scale <= 0 for scale in self.scale):
            raise ValueError("every scale is above 0")
        return self


class Levels(FrozenModel):
    """Log-odds of a trait's words, in small letters; of any other, and of none."""

    kind: Literal["levels"] = "levels"
    trait: str
    levels: dict[str, float]
    other: float
    missing: float


# how a text is read as a number: a day is its number in the calendar
Reading = Literal[
    "number", "decimal comma", "day", "day, day first", "day, month first", "day, month named"
]


class Numbers(FrozenModel):
    """Log-odds of a trait's number x, kept between `low` and `high`: slope·(x − mean)/scale and
    Σ hinge·max(x − knot, 0)/scale; `missing` where there is none. `reads` is how texts are read.
    """

    kind: Literal["numbers"] = "numbers"
    trait: str
    reads: Reading = "number"
    low: float
    high: float
    mean: float
    scale: float = Field(gt=0)
    slope: float
    knots: list[float]
    hinges: list[float]
    missing: float


Attribute = Annotated[Levels | Numbers, Field(discriminator="kind")]


class Calibration(FrozenModel):
    """logit p' = intercept + slope·(a·ln p − b·ln(1 − p) + c): the model's own, and what matured
    outcomes made of it since.
    """

    a: float = Field(1.0, ge=0)
    b: float = Field(1.0, ge=0)
    c: float = 0.0
    intercept: float = 0.0
    slope: float = Field(1.0, ge=0)


class Training(FrozenModel):
    """What a model was learned from; times in RFC 3339."""

    source: str
    began: str
    until: str
    leads: int
    events: int
    outcomes: int
    rows: int


class Learned(FrozenModel):
    """The log-odds layer on a lead's state, attributes, calibration, and what they come from.

    `calibrated` says whether enough of the company's own outcomes stand behind the probabilities.
    """

    version: str = ""
    parent: str = ""
    layer: Layer
    fit: float = 1.0
    attributes: list[Attribute] = []
    calibration: Calibration = Calibration()
    calibrated: bool = False
    training: Training
    evidence: dict[str, Any] = {}
