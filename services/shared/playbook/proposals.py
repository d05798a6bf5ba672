"""Proposes stage, persona and topic for what a company has already, by plain named rules: words in
the path and the title, per language. Pure.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from services.shared.playbook.patterns import Pattern
from services.shared.playbook.sections import CUSTOMER, Playbook
from services.shared.playbook.urls import UrlMatcher

MAX_TITLE = 200
MAX_WORDS = 60  # of a path and a title that are looked at
WORD = re.compile(r"[^\W_]+")
LANGUAGES = ("en", "de", "fr", "es")
OFFERED_FROM = {0: 0, 1: 0, 2: 1, 3: 3}  # the distance that is proposed by the place of a stage


class Reason(NamedTuple):
    """Why something is proposed: the rule, and the words that it found."""

    rule: str
    words: str
    why: str


class Rule(NamedTuple):
    """A named rule: what it proposes where one of its words, by language, is found."""

    name: str
    proposes: str
    words: Mapping[str, str]


class Page(NamedTuple):
    """Something that the company has; what is '' is not known."""

    url: str
    title: str = ""
    language: str = ""
    stage: str = ""
    persona: str = ""
    topic: str = ""


class Proposal(NamedTuple):
    """What is proposed for a page, and why, by field."""

    id: str
    url: str
    title: str
    stage: str
    persona: str
    topic: str
    format: str
    language: str
    distance: int
    reasons: Mapping[str, Reason]


class LeftOut(NamedTuple):
    """A page that is no content, and why."""

    url: str
    rule: str
    why: str


# words of a rule stand in lower case and without accents; the first rule that finds one wins
NO_CONTENT = (
    Rule("legal", "", {"en": "imprint privacy terms cookies legal disclaimer gdpr", "de": "impressum datenschutz agb", "fr": "mentions confidentialite cgv", "es": "privacidad aviso"}),
    Rule("account", "", {"en": "login signin logout register account cart checkout search", "de": "anmelden warenkorb kasse suche", "fr": "connexion panier recherche", "es": "acceso carrito buscar"}),
    Rule("company", "", {"en": "careers jobs career press imprint team contact about", "de": "karriere stellen presse kontakt unternehmen", "fr": "emploi presse contact", "es": "empleo prensa contacto"}),
    Rule("list", "", {"en": "tag tags category categories author authors page feed archive", "de": "schlagwort kategorie autor seite archiv", "fr": "etiquette categorie auteur", "es": "etiqueta categoria autor"}),
)  # fmt: skip
STAGES = (
    Rule("customer-words", "customer", {"en": "help docs documentation support onboarding faq changelog community tutorial kb", "de": "hilfe handbuch dokumentation einfuehrung", "fr": "aide documentation prise", "es": "ayuda documentacion soporte"}),
    Rule("decision-words", "decision", {"en": "pricing price prices plans compare comparison versus vs alternative alternatives case-study case-studies customer-story success-story customers reference references testimonial trial demo offer quote roi buy", "de": "preise preis vergleich alternative fallstudie anwenderbericht referenz referenzen kunden testen angebot kaufen", "fr": "tarif tarifs prix comparatif comparaison temoignage temoignages essai devis offre", "es": "precio precios comparativa comparacion testimonio prueba presupuesto oferta"}),
    Rule("consideration-words", "consideration", {"en": "guide whitepaper white-paper ebook e-book webinar seminar how-to checklist template requirements solution solutions methods best-practices buyer features", "de": "leitfaden ratgeber whitepaper webinar seminar checkliste vorlage anleitung anforderungen loesung loesungen methoden", "fr": "guide livre-blanc webinaire seminaire modele methode methodes solution solutions", "es": "guia webinar seminario plantilla metodo metodos solucion soluciones"}),
    Rule("awareness-words", "awareness", {"en": "why problem problems mistake mistakes cost costs risk risks signs causes reasons challenge challenges", "de": "warum problem probleme fehler kosten risiko risiken ursachen gruende herausforderung", "fr": "pourquoi probleme erreur erreurs cout couts risque risques", "es": "por-que problema errores coste costes riesgo riesgos"}),
    Rule("journal-words", "status_quo", {"en": "blog news article articles story stories magazine journal trends podcast", "de": "blog neuigkeiten aktuelles artikel magazin geschichte trends", "fr": "blog actualites article magazine tendances", "es": "blog noticias articulo revista tendencias"}),
)  # fmt: skip
FORMATS = (
    Rule("format", "case-study", {"en": "case-study case-studies customer-story success-story customers", "de": "fallstudie anwenderbericht referenz referenzen", "fr": "temoignage temoignages", "es": "testimonio"}),
    Rule("format", "webinar", {"en": "webinar", "fr": "webinaire"}),
    Rule("format", "seminar", {"en": "seminar workshop", "fr": "seminaire", "es": "seminario"}),
    Rule("format", "white-paper", {"en": "whitepaper white-paper", "fr": "livre-blanc"}),
    Rule("format", "e-book", {"en": "ebook e-book"}),
    Rule("format", "checklist", {"en": "checklist", "de": "checkliste"}),
    Rule("format", "video", {"en": "video videos"}),
    Rule("format", "comparison", {"en": "compare comparison versus vs", "de": "vergleich", "fr": "comparatif comparaison", "es": "comparativa"}),
    Rule("format", "guide", {"en": "guide", "de": "leitfaden ratgeber anleitung", "es": "guia"}),
    Rule("format", "blog", {"en": "blog"}),
)  # fmt: skip
# words that readers of money, and readers of work, look for; for the persona that they fit
READERS = (
    Rule("money-words", "cfo owner director", {"en": "cost costs budget roi price prices pricing investment savings profit margin finance", "de": "kosten budget preis preise investition ersparnis gewinn finanzen", "fr": "cout couts budget prix investissement rentabilite", "es": "coste costes presupuesto precio inversion ahorro"}),
    Rule("work-words", "", {"en": "how-to checklist template tutorial guide tips technician engineer", "de": "anleitung checkliste vorlage tipps techniker", "fr": "modele astuces technicien", "es": "plantilla consejos tecnico"}),
)  # fmt: skip
PLAIN = frozenset(
    "a an and the of to in for on with your our how what why is are it you we from by or at der die "
    "das und fuer von mit im in den ein eine ihr wie was warum ist sind le la les des et pour un une "
    "el los las y para con que como www index html htm php en de fr es blog news article articles "
    "resources content page pages guide guides download downloads".split()
)


class Proposer:
    """Proposals for the pages of a site, in the terms of a playbook."""

    def __init__(self, playbook: Playbook) -> None:
        self._playbook = playbook
        self._known = UrlMatcher(
            (url, item.id) for item in playbook.content for url in (item.url, *item.urls)
        )
        self._topics = list(dict.fromkeys(item.topic for item in playbook.content))
        self._taken = {item.id for item in playbook.content}

    def propose(self, page: Page) -> Proposal | LeftOut:
        """A proposal; ids are given in the order of the calls."""
        if item := self._known.find(page.url):
            return LeftOut(page.url, "known", f"it is {item} of the playbook already")
        parts = urlsplit(page.url)
        path = [part for part in unquote(parts.path).split("/") if part]
        if not path:
            return LeftOut(page.url, "home", "the home page is no item")
        in_path = _words(" ".join(path))
        if found := _first(NO_CONTENT, _words(" ".join(path[:2])), ""):
            return LeftOut(page.url, found[0].name, f"{found[1]!r} in its path")
        title, by_title = _title(page, path)
        words = tuple(dict.fromkeys((*in_path, *_words(title))))
        language, by_language = self._language(page, path)
        stage, by_stage = self._stage(page, words, language)
        persona, by_persona = self._persona(page, words, language, title)
        topic, by_topic = self._topic(page, path, words)
        found_format = _first(FORMATS, words, language)
        reasons = {
            "title": by_title, "language": by_language, "stage": by_stage, "persona": by_persona,
            "topic": by_topic,
        }  # fmt: skip
        place = self._playbook.stages.index(stage)
        distance = 0 if stage == CUSTOMER else OFFERED_FROM.get(place, 3)
        return Proposal(
            self._id(path, title), page.url, title, stage, persona, topic,
            found_format[0].proposes if found_format else "article",
            language, distance, reasons,
        )  # fmt: skip

    def _language(self, page: Page, path: Sequence[str]) -> tuple[str, Reason]:
        if page.language:
            return page.language.lower()[:2], Reason("given", page.language, "it is given")
        for part in (path[0].lower(), urlsplit(page.url).hostname or ""):
            code = part.partition("-")[0].partition(".")[0]
            if code in LANGUAGES:
                return code, Reason("language-of-the-path", code, f"{code!r} begins its address")
        default = self._playbook.company.language.lower()[:2]
        return default, Reason("company-language", "", "the company's, as none is named")

    def _stage(self, page: Page, words: Sequence[str], language: str) -> tuple[str, Reason]:
        stages = self._playbook.stages
        if page.stage in stages:
            return page.stage, Reason("given", page.stage, "it is given")
        if found := _first(STAGES, words, language):
            stage = found[0].proposes
            known = stage if stage in stages else stages[_place(stage, len(stages))]
            return known, Reason(found[0].name, found[1], f"{found[1]!r} in path or title")
        return stages[0], Reason("no-rule", "", "no rule found a word: the first stage is safest")

    def _persona(
        self, page: Page, words: Sequence[str], language: str, title: str
    ) -> tuple[str, Reason]:
        personas = self._playbook.personas
        if page.persona in {persona.id for persona in personas}:
            return page.persona, Reason("given", page.persona, "it is given")
        for persona in personas:
            if persona.id in words:
                return persona.id, Reason("persona-name", persona.id, "its name in path or title")
        for persona in personas:
            if persona.matches and _pattern(persona.matches, persona.ignoring).is_in(title):
                return persona.id, Reason("persona-title", "", "the title names such a reader")
        if found := _first(READERS, words, language):
            titles = found[0].proposes.split()
            for persona in personas[:-1] if titles else personas[-1:]:
                pattern = _pattern(persona.matches, persona.ignoring) if persona.matches else None
                if not titles or (pattern and any(pattern.is_in(each) for each in titles)):
                    why = f"{found[1]!r} is what such a reader looks for"
                    return persona.id, Reason(found[0].name, found[1], why)
        return "", Reason("no-rule", "", "no rule found a word: it is for everybody")

    def _topic(self, page: Page, path: Sequence[str], words: Sequence[str]) -> tuple[str, Reason]:
        if page.topic:
            return page.topic[:MAX_TITLE], Reason("given", page.topic, "it is given")
        for topic in self._topics:
            if set(_words(topic)) & {*words}:
                return topic, Reason("known-topic", topic, "a topic of the playbook in it")
        folders = [word for part in path[:-1] for word in _words(part) if word not in PLAIN]
        if folders:
            return folders[-1], Reason("folder", folders[-1], "the folder in which it lies")
        longest = max((w for w in words if w not in PLAIN and w.isalpha()), key=len, default="")
        if longest:
            return longest, Reason("longest-word", longest, "the longest word of path and title")
        return "general", Reason("no-rule", "", "no rule found a word")

    def _id(self, path: Sequence[str], title: str) -> str:
        base = "-".join(_words(path[-1])[:8]) or "-".join(_words(title)[:8]) or "item"
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base}-{number}", number + 1
        self._taken.add(name)
        return name


def _place(stage: str, count: int) -> int:
    """Where a stage of the default model lies among another playbook's; the last is `customer`."""
    order = ["status_quo", "awareness", "consideration", "decision"]
    return count - 1 if stage == "customer" else min(order.index(stage), count - 2)


def _title(page: Page, path: Sequence[str]) -> tuple[str, Reason]:
    if page.title.strip():
        return " ".join(page.title.split())[:MAX_TITLE], Reason("given", "", "it is given")
    slug = re.sub(r"\.\w{2,5}$", "", path[-1])
    title = " ".join(re.split(r"[-_+\s]+", slug)).strip() or slug
    return title[:1].upper() + title[1:MAX_TITLE], Reason("slug", slug[:80], "the end of its path")


def _first(rules: Sequence[Rule], words: Sequence[str], language: str) -> tuple[Rule, str] | None:
    """The first rule with a word among these, and the word: in this language, then in any."""
    joined = f"-{'-'.join(words)}-"
    for rule in rules:
        for spoken in dict.fromkeys((language, *rule.words)):
            for word in rule.words.get(spoken, "").split():
                if f"-{word}-" in joined:
                    return rule, word
    return None


def _words(text: str) -> tuple[str, ...]:
    """Words in lower case and without accents."""
    plain = text.lower().replace("ä", "ae").replace("ö", "oe").replace("ü", "ue").replace("ß", "ss")
    plain = unicodedata.normalize("NFKD", plain[: 4 * MAX_TITLE])
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return tuple(WORD.findall(plain)[:MAX_WORDS])


@lru_cache(64)
def _pattern(matches: str, ignoring: str) -> Pattern:
    return Pattern(matches, ignoring)
