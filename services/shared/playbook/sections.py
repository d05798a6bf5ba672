"""The playbook's sections: everything a company decides about its leads."""

import hashlib
import json
from datetime import date
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from services.shared.playbook.expressions import names_in
from services.shared.playbook.frozen import FrozenModel
from services.shared.playbook.machines import Machines
from services.shared.playbook.senders import Sender
from services.shared.playbook.stage_model import Model

UNKNOWN = "unknown"
CUSTOMER = "customer"
FOLD_VERSION = 4  # of the fold's rules and the shape of its state; raising it refolds every lead


class Company(FrozenModel):
    """Who we are, for the foot of every mail."""

    name: str
    postal_address: str
    website: str
    timezone: str = "UTC"
    language: str = "en"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            return ZoneInfo(value).key
        except (ValueError, OSError, KeyError):
            raise ValueError("no time zone; write a name such as Europe/Berlin") from None


class PageRule(FrozenModel):
    """Addresses or forms whose visit means more than a page view."""

    type: str
    urls: list[str] = []
    forms: list[str] = []


class FitRule(FrozenModel):
    """Points for a trait; one condition a rule. What `ignoring` finds in a text is passed over by
    `matches`.
    """

    trait: str
    points: float
    why: str
    one_of: list[str] = []
    matches: str = ""
    ignoring: str = ""
    at_least: float | None = None
    at_most: float | None = None
    present: bool | None = None


class Fit(FrozenModel):
    """How well a lead's traits match, in points of 0 to 100."""

    base: float = 50
    qualified_at: float = 60
    weight: float = 0.4054651081081644  # ln 1.5 for every 25 points above 50
    grades: dict[str, float] = {"A": 80, "B": 60, "C": 40}
    rules: list[FitRule] = []


class PointRule(FrozenModel):
    """Points of one kind of act: its group, and how many count in how many days."""

    points: float
    group: str
    limit: int = 1_000_000
    days: float = 1


class PointGroup(FrozenModel):
    """Acts whose points are capped together and decay with one half-life."""

    cap: float
    half_life_days: float = 7


class Engagement(FrozenModel):
    """Decayed points; `acts` is keyed by mark of the model, or by type where a type has no mark."""

    groups: dict[str, PointGroup] = Field(min_length=1)
    acts: dict[str, PointRule]


class Exclusion(FrozenModel):
    """People who are no leads: competitors, partners, employees, tests."""

    reason: str
    domains: list[str] = []
    emails: list[str] = []
    trait: str = ""
    one_of: list[str] = []


class Persona(FrozenModel):
    """A kind of reader; the first whose trait matches wins, the last without a rule is the
    default. `ignoring` as in a rule of fit.
    """

    id: str
    name: str
    trait: str = ""
    matches: str = ""
    ignoring: str = ""


class Content(FrozenModel):
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


class Program(FrozenModel):
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


class Cadence(FrozenModel):
    """Limits over all programs."""

    per_week: int = 3
    min_hours_between: float = 20
    quiet_from: int = Field(22, ge=0, le=23)
    quiet_until: int = Field(6, ge=0, le=23)
    working_days: list[int] = [0, 1, 2, 3, 4, 5, 6]
    on_site_minutes: float = 30


class Holdout(FrozenModel):
    """The share of leads that get no touches, drawn by a hash with `salt`."""

    share: float = Field(0.1, ge=0, le=0.9)
    salt: str = "ripeline"


class Consent(FrozenModel):
    """Which permissions count, and words that mean yes and no beside those that everybody knows."""

    double_opt_in: bool = False
    yes_words: list[str] = []
    no_words: list[str] = []


class Inbound(FrozenModel):
    """How mails that come in are read: beginnings of the subjects of automatic answers, beside
    those that everybody knows.
    """

    automatic_subjects: list[str] = []


class Sales(FrozenModel):
    """What sales may give as the reason when it disqualifies a lead."""

    disqualify_reasons: list[str] = Field(
        ["no_budget", "no_authority", "no_need", "bad_timing", "too_small", "not_our_market",
        "competitor", "student",
         "bad_data", "other"],
        min_length=1,
    )  # fmt: skip


class Crm(FrozenModel):
    """What is written back to a CRM and when: its `fields`, as JMESPath expressions over what is
    known of a lead.

    Nothing is written while `fields` is empty. `min_change` counts points of 100: of fit,
    engagement and likelihood.
    """

    system: str = ""
    fields: dict[str, str] = {}
    when: list[Literal["stage_changed", "qualified", "score_moved", "sales_changed"]] = [
        "stage_changed", "qualified", "score_moved", "sales_changed",
    ]  # fmt: skip
    min_change: float = Field(5, gt=0, le=100)


class Identity(FrozenModel):
    """Words that identify nobody, and mailboxes that belong to a role and not to a person."""

    junk: list[str] = []
    role_mailboxes: list[str] = []
    free_mail_domains: list[str] = []


class Playbook(FrozenModel):
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
    inbound: Inbound = Inbound()
    identity: Identity = Identity()
    sales: Sales = Sales()
    crm: Crm = Crm()
    senders: list[Sender] = []
    machines: Machines = Machines()
    model: Model

    @cached_property
    def content_by_id(self) -> dict[str, Content]:
        return {item.id: item for item in self.content}

    @cached_property
    def stages(self) -> list[str]:
        """The model's stages in order, then `customer`."""
        return [*self.model.stages, CUSTOMER]

    @cached_property
    def named_traits(self) -> frozenset[str]:
        """The traits that a rule of the playbook reads."""
        written_back = (names_in(expression) for expression in self.crm.fields.values())
        return frozenset(
            trait
            for trait in (
                *(rule.trait for rule in self.fit.rules),
                *(rule.trait for rule in self.exclusions),
                *(persona.trait for persona in self.personas),
            )
            if trait
        ).union(*written_back)

    @cached_property
    def fold_hash(self) -> str:
        """Hash of all that the fold depends on; a state stored with another hash is refolded."""
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
            json.dumps(
                [FOLD_VERSION, fold, content, sorted(self.named_traits)], sort_keys=True
            ).encode()
        ).hexdigest()[:16]
