"""The site that simulated people visit, as the playbook describes it."""

from dataclasses import dataclass

from services.shared.playbook.sections import Playbook

QUIET, CURIOUS, WEIGHING, DECIDING = range(4)  # the hidden stages of simulated people
STAGES = 4


@dataclass(frozen=True)
class Page:
    """One item of the library as a visitor meets it."""

    content_id: str
    url: str
    form: str
    format: str


@dataclass(frozen=True)
class World:
    """The site that people visit, as the playbook describes it."""

    website: str
    library: tuple[tuple[Page, ...], ...]  # by hidden stage
    urls: dict[str, str]  # an address for each type of act
    forms: dict[str, str]  # a form for each type of act
    stages: tuple[str, ...]
    on_site_minutes: float = 30  # for so long after a visit nobody is written to

    @classmethod
    def of(cls, playbook: Playbook) -> "World":
        """The world of a playbook; hidden stages and its own correspond by their order."""
        names = playbook.model.stages
        library: list[list[Page]] = [[] for _ in range(STAGES)]
        for item in playbook.content:
            page = Page(item.id, item.url, item.forms[0] if item.forms else "", item.format.lower())
            places = [names.index(stage) for stage in item.stages if stage in names]
            if places:
                library[_scaled(max(places), len(names), STAGES)].append(page)
        site = playbook.company.website.rstrip("/")
        urls = {rule.type: _example(rule.urls[0], site) for rule in playbook.pages if rule.urls}
        forms = {rule.type: rule.forms[0] for rule in playbook.pages if rule.forms}
        on_site = playbook.cadence.on_site_minutes
        return cls(site, tuple(map(tuple, library)), urls, forms, tuple(names), on_site)

    def stage_name(self, hidden: int) -> str:
        """The playbook's name of a hidden stage."""
        return self.stages[_scaled(hidden, STAGES, len(self.stages))]

    def pages(self, stage: int) -> tuple[Page, ...]:
        """What is written for a stage, else for the nearest one that has anything."""
        nearest = sorted(range(STAGES), key=lambda other: abs(other - stage))
        return next((self.library[other] for other in nearest if self.library[other]), ())


def _example(pattern: str, site: str) -> str:
    """An address that a pattern with `*` fits."""
    plain = pattern.replace("*", "")
    return plain if "://" in plain else f"{site}/{plain.lstrip('/')}"


def _scaled(place: int, count: int, onto: int) -> int:
    return round(place * (onto - 1) / max(count - 1, 1))
