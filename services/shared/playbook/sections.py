"""The playbook's sections: everything a company decides about its leads, as frozen, typed
models.
"""

import hashlib
import json
from datetime import date
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.shared.playbook.senders import Sender

UNKNOWN = "unknown"
CUSTOMER = "customer"
FOLD = 2  # of the fold's own rules and the shape of its state: raised, every lead is folded anew


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Company(Part):
    """Who we are, for the foot of every mail."""

    name: str
    postal_address: str
    website: str
    timezone: str = "UTC"
    language: str = "en"


class PageRule(Part):
    """Addresses or forms whose visit means more than a page view."""

    type: str
    urls: list[str] = []
    forms: list[str] = []


class FitRule(Part):
    """Points for a trait; one condition a rule."""

    trait: str
    points: float
    why: str
    one_of: list[str] = []
    matches: str = ""
    at_least: float | None = None
    at_most: float | None = None
    present: bool | None = None


class Fit(Part):
    base: float = 50
    qualified_at: float = 60
    weight: float = 0.4054651081081644  # ln 1.5 for every 25 points above 50
    grades: dict[str, float] = {"A": 80, "B": 60, "C": 40}
    rules: list[FitRule] = []


class PointRule(Part):
    """Points of one kind of act: its group, and how many count in how many days."""

    points: float
    group: str
    limit: int = 1_000_000
    days: float = 1


class PointGroup(Part):
    cap: float
    half_life_days: float = 7


class Engagement(Part):
    """Decayed points; `acts` is keyed by mark of the model, or by type where a type has no mark."""

    groups: dict[str, PointGroup] = Field(min_length=1)
    acts: dict[str, PointRule]


class Exclusion(Part):
    """Leads that are not leads: competitors, partners, employees, tests."""

    reason: str
    domains: list[str] = []
    emails: list[str] = []
    trait: str = ""
    one_of: list[str] = []


class Persona(Part):
    """A kind of reader; the first whose trait matches wins, the last without a rule is the
    default.
    """

    id: str
    name: str
    trait: str = ""
    matches: str = ""


class Content(Part):
    """One item of the library: whom it is for, what it is, and the mail that offers it."""

    id: str
    title: str
    stages: list[str] = Field(min_length=1)
    personas: list[str] = []
    products: list[str] = []
    format: str
    topic: str
    angle: str = ""
    distance: int = Field(
        ge=0, le=3, description="0 education, 1 solution, 2 our product, 3 an offer"
    )
    url: str
    urls: list[str] = []
    forms: list[str] = []
    prerequisites: list[str] = []
    call_to_action: str
    subject: str
    body: str
    language: str = "en"
    countries: list[str] = []
    valid_until: date | None = None
    objective: str = ""
    sample: bool = False
    service: bool = False


class Program(Part):
    """A series of items in the author's order, for a product and personas.

    With `trigger: request` it hands over what a lead asked for, at once: an item of it by its form,
    or what `answers` names for a type of act.
    """

    id: str
    name: str
    goal: str
    state: Literal["draft", "test", "live"] = "live"
    product: str = "default"
    personas: list[str] = []
    trigger: Literal["stage", "request"] = "stage"
    answers: dict[str, str] = {}
    stages: list[str] = []
    channel: Literal["email", "webhook"] = "email"
    items: list[str] = []


class Cadence(Part):
    """Limits over all programs."""

    per_week: int = 3
    min_hours_between: float = 20
    quiet_from: int = Field(22, ge=0, le=23)
    quiet_until: int = Field(6, ge=0, le=23)
    working_days: list[int] = [0, 1, 2, 3, 4, 5, 6]
    on_site_minutes: float = 30


class Holdout(Part):
    share: float = Field(0.1, ge=0, le=0.9)
    salt: str = "ripeline"


class Consent(Part):
    double_opt_in: bool = False


class Sales(Part):
    """What sales may give as the reason when it disqualifies a lead."""

    disqualify_reasons: list[str] = Field(
        ["no_budget", "no_authority", "no_need", "bad_timing", "too_small", "not_our_market",
        "competitor", "student",
         "bad_data", "other"],
        min_length=1,
    )  # fmt: skip


class Crm(Part):
    """What is written back to a CRM: `fields` of its own by JMESPath expressions over what is
    known, and when.

    Nothing is written while `fields` is empty. `min_change` counts points of 100: of fit,
    engagement and likelihood.
    """

    system: str = ""
    fields: dict[str, str] = {}
    when: list[Literal["stage_changed", "qualified", "score_moved", "sales_changed"]] = [
        "stage_changed", "qualified", "score_moved", "sales_changed",
    ]  # fmt: skip
    min_change: float = Field(5, gt=0, le=100)


class Identity(Part):
    """Words that identify nobody, and mailboxes that belong to a desk and not to a person."""

    junk: list[str] = []
    role_mailboxes: list[str] = []
    free_mail_domains: list[str] = []


class Given(Part):
    p: list[float]
    days: float


class Jump(Part):
    target: str
    up: float
    down: float


class Hysteresis(Part):
    publish_at: float
    margin: float
    dwell_down_days: float


class Eigenbasis(Part):
    """V·diag(exp(values·Δ))·inverse = exp(D0·Δ), worked out once for the parameters whose hash is
    `of`.
    """

    of: str
    values: list[float]
    vectors: list[list[float]]
    inverse: list[list[float]]


class Model(Part):
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
    given_send: dict[str, Given]
    hysteresis: Hysteresis
    review_days: list[float]
    same_mark_within_minutes: float
    mark_of_type: dict[str, str | None]
    horizon_days: float = 90
    eigenbasis: Eigenbasis | None = None

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

    @cached_property
    def parameters_hash(self) -> str:
        """What the eigenbasis depends on."""
        parts = [self.stages, self.rate, self.drift, self.hazard, self.kappa]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Playbook(Part):
    """The whole playbook; lists keep the author's order."""

    company: Company
    products: list[str] = Field(["default"], min_length=1)
    unnamed_product_weight: float = Field(0.5, gt=0, le=1)
    open_pixel: bool = False
    pages: list[PageRule] = []
    fit: Fit = Fit()
    engagement: Engagement
    exclusions: list[Exclusion] = []
    personas: list[Persona] = Field(min_length=1)
    content: list[Content] = []
    programs: list[Program] = []
    cadence: Cadence = Cadence()
    holdout: Holdout = Holdout()
    consent: Consent = Consent()
    identity: Identity = Identity()
    sales: Sales = Sales()
    crm: Crm = Crm()
    senders: list[Sender] = []
    model: Model

    @cached_property
    def content_by_id(self) -> dict[str, Content]:
        return {item.id: item for item in self.content}

    @cached_property
    def stages(self) -> list[str]:
        """The model's stages in order, then `customer`."""
        return [*self.model.stages, CUSTOMER]

    @cached_property
    def fold_hash(self) -> str:
        """Hash of all that the fold depends on; state of another hash is void."""
        content = [
            item.model_dump(include={"id", "stages", "url", "urls", "forms"})
            for item in self.content
        ]
        fold = self.model_dump(
            mode="json",
            include={
                "products",
                "unnamed_product_weight",
                "pages",
                "fit",
                "engagement",
                "exclusions",
                "model",
            },
        )
        return hashlib.sha256(
            json.dumps([FOLD, fold, content], sort_keys=True).encode()
        ).hexdigest()[:16]
