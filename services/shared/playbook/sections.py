"""The playbook's sections: everything a company decides about its leads."""

import hashlib
import json
from datetime import date
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from services.shared.playbook.audiences import Audience
from services.shared.playbook.expressions import names_in
from services.shared.playbook.frozen import FrozenModel
from services.shared.playbook.handoff import Handoff
from services.shared.playbook.machines import Machines
from services.shared.playbook.programs import (
    DEFAULT_AFTER_LOSS,
    STATES,
    AfterLoss,
    Program,
    State,
)
from services.shared.playbook.senders import Sender
from services.shared.playbook.stage_model import Model

UNKNOWN = "unknown"
CUSTOMER = "customer"
# of a model file what people decide and nothing is learned of
OWN_OF_MODEL = ("hysteresis", "review_days", "same_mark_within_minutes", "mark_of_type")
Purpose = Literal["service", "education", "product", "promotion", "sales"]
# by distance from education to an offer
PURPOSES: tuple[Purpose, ...] = ("education", "education", "product", "promotion")
FOLD_VERSION = 5  # of the fold's rules and the shape of its state; raising it refolds every lead


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
    """How well a lead's traits match, in points of 0 to 100. Traits that are `known_at_capture` are
    learned from though they look as if they knew the outcome.
    """

    base: float = 50
    qualified_at: float = 60
    weight: float = 0.4054651081081644  # ln 1.5 for every 25 points above 50
    grades: dict[str, float] = {"A": 80, "B": 60, "C": 40}
    rules: list[FitRule] = []
    known_at_capture: list[str] = []


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
    layout: str = Field(
        "", description="a file of the folder mails/, .mjml or .html, for the mail's HTML part"
    )
    channel: Literal["", "email", "webhook", "call"] = Field(
        "", description="how this item goes out; left out it is its program's way"
    )
    language: str = "en"
    countries: list[str] = []
    valid_until: date | None = None
    objective: str = ""
    sample: bool = False
    service: bool = False
    state: Literal["draft", "live"] = "live"

    @property
    def purpose(self) -> Purpose:
        """What sending it unasked is for."""
        if self.service:
            return "service"
        return PURPOSES[self.distance]


class Cap(FrozenModel):
    """At most `max` touches in so many days."""

    days: int = Field(ge=1, le=31)
    max: int = Field(ge=1)


class Cadence(FrozenModel):
    """Limits over all programs. `caps` come beside `per_week`. With `holidays` nothing is sent on
    public holidays of the lead's country.
    """

    per_week: int = 3
    caps: list[Cap] = []
    min_hours_between: float = 20
    quiet_from: int = Field(22, ge=0, le=23)
    quiet_until: int = Field(6, ge=0, le=23)
    working_days: list[int] = [0, 1, 2, 3, 4, 5, 6]
    holidays: bool = True
    on_site_minutes: float = 30

    @property
    def all_caps(self) -> list[Cap]:
        """That of a week, and the others."""
        return [Cap(days=7, max=max(self.per_week, 1)), *self.caps]


class Sending(FrozenModel):
    """How fast mails go out. A new sender sends `first_day` mails on its first day, and on each of
    `ramp_days` `daily_growth` times those of the day before; a receiver (a provider, else a domain)
    gets `per_hour` at most.
    """

    first_day: int = Field(200, ge=1)
    daily_growth: float = Field(1.5, ge=1, le=10)
    ramp_days: int = Field(21, ge=0, le=90)
    per_hour: int = Field(1_000, ge=1)


class Calls(FrozenModel):
    """Calls that people are asked to make: by whom, where the lead's `owner_trait` names nobody,
    and until when.
    """

    assignee: str = ""
    owner_trait: str = "owner"
    due_hours: float = Field(24, gt=0, le=8760)
    expires_days: float = Field(7, gt=0, le=365)


class CalendarArm(FrozenModel):
    """The share of accounts that get the same content in the author's order, an item every so many
    `days`, whatever their stage and pace.
    """

    share: float = Field(0.0, ge=0, le=0.9)
    days: float = Field(7.0, ge=1, le=365)


class Holdout(FrozenModel):
    """The share of accounts that get no touches, and of those that get them by the calendar, drawn
    by a hash with `salt`.
    """

    share: float = Field(0.1, ge=0, le=0.9)
    salt: str = "ripeline"
    calendar: CalendarArm = CalendarArm()

    @model_validator(mode="after")
    def _leaves_some(self) -> "Holdout":
        if self.share + self.calendar.share > 0.95:
            raise ValueError(
                "the hold-out and the calendar leave nobody to be nurtured; lower one of their "
                "shares, to 0.95 together at the most"
            )
        return self


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
    """What sales may give as the reason when it disqualifies a lead. With `pauses_account` its work
    with one lead also pauses the programs of the others of that company.
    """

    pauses_account: bool = False

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
    """The whole playbook; lists keep the author's order. No program is further than `state`; those
    in test reach `test_addresses` alone.
    """

    company: Company
    state: State = "live"
    test_addresses: list[str] = []
    products: list[str] = Field(["default"], min_length=1)
    unnamed_product_weight: float = Field(0.5, gt=0, le=1)
    open_pixel: bool = False
    tracking: Literal["granted", "asked"] = Field(
        "granted",
        description="whether clicks and opens are measured of who was not asked: granted, yes; "
        "asked, no",
    )
    mails: dict[str, str] = Field({}, description="the layouts in the folder mails/, by file name")
    pages: list[PageRule] = []
    fit: Fit = Fit()
    engagement: Engagement
    exclusions: list[Exclusion] = []
    personas: list[Persona] = Field(min_length=1)
    content: list[Content] = []
    programs: list[Program] = []
    after_loss: list[AfterLoss] = DEFAULT_AFTER_LOSS
    cadence: Cadence = Cadence()
    sending: Sending = Sending()
    holdout: Holdout = Holdout()
    calls: Calls = Calls()
    audiences: list[Audience] = []
    consent: Consent = Consent()
    inbound: Inbound = Inbound()
    identity: Identity = Identity()
    sales: Sales = Sales()
    handoff: Handoff = Handoff()
    crm: Crm = Crm()
    senders: list[Sender] = []
    machines: Machines = Machines()
    model: Model

    def state_of(self, program: Program) -> State:
        """How far a program is: no further than the playbook."""
        return min(self.state, program.state, key=STATES.index)

    @cached_property
    def content_by_id(self) -> dict[str, Content]:
        return {item.id: item for item in self.content}

    @cached_property
    def live_content(self) -> list[Content]:
        """The items without drafts: those that are offered, and known by their pages and forms."""
        return [item for item in self.content if item.state == "live"]

    @cached_property
    def stages(self) -> list[str]:
        """The model's stages in order, then `customer`."""
        return [*self.model.stages, CUSTOMER]

    @cached_property
    def learned_traits(self) -> frozenset[str]:
        """The traits that the model has weights of."""
        learned = self.model.learned
        return frozenset(each.trait for each in learned.attributes) if learned else frozenset()

    def with_model(self, model: Model) -> "Playbook":
        """The same playbook under another model; what people decide about the stage filter (marks
        of types, when a stage is published) stays this playbook's.
        """
        own = {name: getattr(self.model, name) for name in OWN_OF_MODEL}
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_construct(**sections | {"model": model.model_copy(update=own)})

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
                *(each.trait for owner in self.handoff.owners for each in owner.territories),
            )
            if trait
        ).union(*written_back, self.learned_traits)

    @cached_property
    def hash(self) -> str:
        """Of everything but the model: what was decided with another hash is decided again."""
        text = self.model_dump_json(exclude={"model"})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def fold_hash(self) -> str:
        """Hash of all that the fold depends on; a state stored with another hash is refolded."""
        content = [
            item.model_dump(include={"id", "stages", "url", "urls", "forms"})
            for item in self.live_content
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
        del fold["fit"]["known_at_capture"]
        if self.model.learned is None:
            del fold["model"]["learned"]
        return hashlib.sha256(
            json.dumps(
                [FOLD_VERSION, fold, content, sorted(self.named_traits)], sort_keys=True
            ).encode()
        ).hexdigest()[:16]
