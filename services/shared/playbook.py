"""The playbook: everything a company decides about its leads, as typed, validated YAML."""

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jmespath
import yaml
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.shared import sender_rules

UNKNOWN = "unknown"
CUSTOMER = "customer"
FOLD = 2  # of the fold's own rules and the shape of its state: raised, every lead is folded anew
TRACKING = re.compile(r"^(utm_|mc_|hsa_|_hs|pk_)|^(gclid|fbclid|msclkid|dclid|yclid|twclid|ref)$")


class Problem(Exception):
    """One thing that is wrong in a playbook: file, line, what, and how to mend it."""

    def __init__(self, file: str, line: int, what: str, remedy: str) -> None:
        super().__init__(f"{file}:{line}: {what}. {remedy}")
        self.file, self.line, self.what, self.remedy = file, line, what, remedy


class Broken(Exception):
    """A playbook with problems; `problems` lists all that were found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


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
    """A kind of reader; the first whose trait matches wins, the last without a rule is the default."""

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
    distance: int = Field(ge=0, le=3, description="0 education, 1 solution, 2 our product, 3 an offer")
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

    With `trigger: request` it hands over what a lead asked for, at once: an item of it by its form, or what `answers` names for
    a type of act.
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
        ["no_budget", "no_authority", "no_need", "bad_timing", "too_small", "not_our_market", "competitor", "student",
         "bad_data", "other"],
        min_length=1,
    )  # fmt: skip


class Crm(Part):
    """What is written back to a CRM: `fields` of its own by JMESPath expressions over what is known, and when.

    Nothing is written while `fields` is empty. `min_change` counts points of 100: of fit, engagement and likelihood.
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
    """V·diag(exp(values·Δ))·inverse = exp(D0·Δ), worked out once for the parameters whose hash is `of`."""

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
    senders: list[sender_rules.Sender] = []
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
        content = [item.model_dump(include={"id", "stages", "url", "urls", "forms"}) for item in self.content]
        fold = self.model_dump(
            mode="json",
            include={"products", "unnamed_product_weight", "pages", "fit", "engagement", "exclusions", "model"},
        )
        return hashlib.sha256(json.dumps([FOLD, fold, content], sort_keys=True).encode()).hexdigest()[:16]


def plain_address(url: str) -> str:
    """An address without scheme, `www.`, tracking parameters, fragment and trailing slash, in lower case."""
    bare = url.partition("#")[0]
    bare = re.sub(r"^[a-z][a-z0-9+.-]*://", "", bare, flags=re.I)
    path, _, query = bare.partition("?")
    kept = [pair for pair in query.split("&") if pair and not TRACKING.search(pair.partition("=")[0].lower())]
    path = path.removeprefix("www.").rstrip("/").lower()
    return f"{path}?{'&'.join(kept)}" if kept else path


class AddressBook:
    """Finds which rule an address belongs to; `*` in a pattern stands for anything. First pattern wins."""

    def __init__(self, patterns: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, str] = {}
        self._globs: list[tuple[re.Pattern[str], str]] = []
        for pattern, name in patterns:
            plain = plain_address(pattern)
            if "*" in plain:
                self._globs.append((re.compile(".*".join(map(re.escape, plain.split("*"))) + r"(\?.*)?"), name))
            else:
                self._exact.setdefault(plain, name)

    def find(self, url: str) -> str | None:
        plain = plain_address(url)
        for candidate in (plain, plain.partition("?")[0]):
            if name := self._exact.get(candidate):
                return name
        return next((name for regex, name in self._globs if regex.fullmatch(plain)), None)


SECTIONS = {
    "company": "playbook.yaml", "products": "playbook.yaml", "unnamed_product_weight": "playbook.yaml",
    "open_pixel": "playbook.yaml", "cadence": "playbook.yaml", "holdout": "playbook.yaml",
    "consent": "playbook.yaml", "personas": "playbook.yaml", "sales": "playbook.yaml", "crm": "playbook.yaml",
    "identity": "identity.yaml",
    "exclusions": "identity.yaml", "fit": "score.yaml", "engagement": "score.yaml", "pages": "score.yaml",
    "content": "content.yaml", "programs": "programs.yaml", "model": "model.json",
    "senders": "senders.yaml",
}  # fmt: skip
OPTIONAL = frozenset({"senders.yaml"})


def load(folder: Path) -> Playbook:
    """Reads and validates a playbook folder. Raises `Broken` with every problem, each with file, line and remedy."""
    sources: dict[str, tuple[str, yaml.Node | None]] = {}
    raw: dict[str, Any] = {}
    problems: list[Problem] = []
    for file in dict.fromkeys(SECTIONS.values()):
        try:
            text = (folder / file).read_text("utf-8")
            node = yaml.compose(text, yaml.CSafeLoader)
            data = json.loads(text) if file.endswith(".json") else yaml.load(text, yaml.CSafeLoader)
        except FileNotFoundError:
            if file in OPTIONAL:
                continue
            problems.append(Problem(file, 1, "the file is missing", f"Put {file} into {folder.name}/"))
            continue
        except (yaml.YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else getattr(error, "lineno", 1)
            what = getattr(error, "problem", None) or getattr(error, "msg", str(error))
            problems.append(Problem(file, line, f"not readable: {what}", "Mend the syntax there"))
            continue
        if file == "model.json":
            data = {"model": data}
        if not isinstance(data, dict):
            problems.append(Problem(file, 1, "not a mapping", "Start with section names, e.g. `programs:`"))
            continue
        for section, value in data.items():
            sources[section] = (file, node)
            raw[section] = value
            if SECTIONS.get(section, file) != file:
                problems.append(Problem(file, 1, f"section {section!r} belongs into {SECTIONS[section]}", "Move it"))
    if problems:
        raise Broken(problems)
    try:
        playbook = Playbook.model_validate(raw)
    except ValidationError as error:
        raise Broken([_located(sources, tuple(one["loc"]), one["msg"]) for one in error.errors()]) from None
    problems = [_located(sources, loc, what, remedy) for loc, what, remedy in _contradictions(playbook)]
    if problems:
        raise Broken(problems)
    return playbook


def _located(
    sources: dict[str, tuple[str, yaml.Node | None]],
    loc: tuple[int | str, ...],
    what: str,
    remedy: str = "Compare with deploy/playbook, which shows every field",
) -> Problem:
    """Finds the line of a path like ("content", 3, "stages") in the composed YAML."""
    file, node = sources.get(str(loc[0]) if loc else "", ("playbook.yaml", None))
    line = 1
    for step in loc[1:] if file == "model.json" else loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    path = ".".join(str(step) for step in loc)
    return Problem(file, line, f"{path}: {what}", remedy)


def _contradictions(playbook: Playbook) -> Iterable[tuple[tuple[int | str, ...], str, str]]:
    """Yields (path, what, remedy) of everything that types alone do not show."""
    stages, items = set(playbook.stages), playbook.content_by_id
    personas = {persona.id for persona in playbook.personas}
    if len(items) != len(playbook.content):
        seen: set[str] = set()
        for i, item in enumerate(playbook.content):
            if item.id in seen:
                yield ("content", i, "id"), f"{item.id!r} is taken", "Give every item an id of its own"
            seen.add(item.id)
    for i, item in enumerate(playbook.content):
        for stage in sorted(set(item.stages) - stages):
            yield ("content", i, "stages"), f"no stage {stage!r}", f"Use one of {', '.join(playbook.stages)}"
        for persona in sorted(set(item.personas) - personas):
            yield ("content", i, "personas"), f"no persona {persona!r}", "Declare it under personas"
        for product in sorted(set(item.products) - set(playbook.products)):
            yield ("content", i, "products"), f"no product {product!r}", "Declare it under products"
        for needed in item.prerequisites:
            if needed not in items:
                yield ("content", i, "prerequisites"), f"no content {needed!r}", "Name an existing item's id"
    for i, loop in _loops(playbook.content):
        chain = " -> ".join(loop)
        yield ("content", i, "prerequisites"), f"a loop of prerequisites: {chain}", "Take one of them out"
    for i, program in enumerate(playbook.programs):
        for j, name in enumerate(program.items):
            if name not in items:
                yield ("programs", i, "items", j), f"no content {name!r}", "Name an existing item's id"
        for stage in sorted(set(program.stages) - stages):
            yield ("programs", i, "stages"), f"no stage {stage!r}", f"Use one of {', '.join(playbook.stages)}"
        if program.product not in playbook.products:
            yield ("programs", i, "product"), f"no product {program.product!r}", "Declare it under products"
        if program.trigger == "stage" and not (program.stages and program.items):
            yield ("programs", i), "neither stages nor items", "Give both, or `trigger: request`"
        for asked, name in program.answers.items():
            if name not in items:
                yield ("programs", i, "answers", asked), f"no content {name!r}", "Name an existing item's id"
        for persona in sorted(set(program.personas) - personas):
            yield ("programs", i, "personas"), f"no persona {persona!r}", "Declare it under personas"
    for name, act in playbook.engagement.acts.items():
        if act.group not in playbook.engagement.groups:
            yield ("engagement", "acts", name, "group"), f"no group {act.group!r}", "Declare it under engagement.groups"
    known = {*playbook.model.rate, "given_send", None}
    for type_, mark in playbook.model.mark_of_type.items():
        if mark not in known and not str(mark).startswith("by the content's latest stage"):
            yield ("model", "mark_of_type", type_), f"no mark {mark!r}", "Use a mark that has rates"
    if playbook.crm.fields and not playbook.crm.system.strip():
        yield ("crm",), "fields without a system", "Name the system whose external ids find the lead there, e.g. `hubspot`"
    for name, expression in playbook.crm.fields.items():
        try:
            jmespath.search(expression, {})
        except JMESPathTypeError:
            pass  # of nothing; of a lead it may be right
        except JMESPathError as error:
            yield ("crm", "fields", name), f"no JMESPath expression: {str(error).splitlines()[0]}", "Mend the expression"
    yield from sender_rules.contradictions(playbook.senders)
    for i, rule in enumerate(playbook.fit.rules):
        conditions = [rule.one_of, rule.matches, rule.at_least is not None, rule.at_most is not None,
                      rule.present is not None]  # fmt: skip
        if not any(conditions):
            yield ("fit", "rules", i), "no condition", "Give one_of, matches, at_least, at_most or present"
        try:
            re.compile(rule.matches)
        except re.error as error:
            yield ("fit", "rules", i, "matches"), f"no regular expression: {error}", "Mend the expression"


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
