"""Which family of signals a type of event, a mark of the model, or a trait belongs to, by its name.

Content consumption is what people read, watch and look at. The other families are what they say,
who they are, who else of the account acts, how fast, and what sales noted.
"""

from collections.abc import Iterable

CONTENT = ("content", "pages", "mail")
OTHER = (
    "breadth", "seniority", "replies", "meetings", "requests", "sales notes", "attributes", "pace",
    "other acts",
)  # fmt: skip
FAMILIES = (*CONTENT, *OTHER)
# beginnings of words in a name, the first family that has one; of events and of traits
_BEGINNINGS: dict[str, tuple[str, ...]] = {
    "sales notes": (
        "champion", "blocker", "urgen", "mood", "sentiment", "objection", "budget", "authority",
        "timeline", "note", "noted",
    ),
    "replies": ("repl", "answer", "respon"),
    "meetings": ("meeting", "call", "conversation", "appointment", "talk", "met"),
    "requests": ("demo", "enquir", "inquir", "trial", "quote", "contactus", "request"),
    "breadth": ("breadth", "contacts", "stakeholder", "colleague", "persons", "committee"),
    "mail": ("opened", "opens", "clicked", "clicks", "email_click", "mails"),
    "content": (
        "content", "download", "whitepaper", "ebook", "guide", "webinar", "video", "article",
        "blog", "podcast", "newsletter", "newspaper", "magazine", "brochure", "read", "watch",
        "case", "copy", "library", "event_attended", "course",
    ),
    "pages": (
        "visit", "page", "pricing", "prices", "view", "website", "site", "session", "browse",
        "search",
    ),
    "seniority": ("title", "seniority", "role", "position", "occupation", "level", "job"),
    "pace": ("pace", "velocity", "recency", "frequency", "speed", "since"),
}  # fmt: skip
_WHOLE = {
    "link_clicked": "content", "event_attended": "content", "ad_clicked": "mail",
    "social_engaged": "content", "survey_answered": "replies", "not_now": "replies",
    "preference_set": "replies", "identified": "other acts", "form_submitted": "other acts",
    "call_attempted": "other acts", "call_expired": "other acts", "open": "mail", "click": "mail",
    "stakeholders": "breadth", "buying_group": "breadth", "group_size": "breadth",
    "time_spent": "pages", "total_time_spent_on_website": "pages",
}  # fmt: skip
SENIORITIES: dict[str, frozenset[str]] = {
    "chief": frozenset({
        "chief", "ceo", "cto", "cfo", "coo", "cio", "cmo", "cso", "cpo", "ciso", "owner", "founder",
        "cofounder", "president", "partner", "geschäftsführer", "geschäftsführerin", "vorstand",
    }),
    "director": frozenset({
        "vp", "svp", "evp", "vice", "director", "head", "leiter", "leiterin", "directeur",
    }),
    "manager": frozenset({"manager", "managerin", "lead", "supervisor", "principal", "senior"}),
    "junior": frozenset({
        "student", "intern", "trainee", "junior", "assistant", "praktikant", "werkstudent",
    }),
}  # fmt: skip


def words(name: str) -> list[str]:
    """The words of a name in small letters: `TotalVisits`, `total_visits` and `Total Visits` have
    the same.
    """
    spaced = []
    before = ""
    for letter in name:
        if letter.isupper() and before.islower():
            spaced.append(" ")
        spaced.append(letter if letter.isalnum() else " ")
        before = letter
    return "".join(spaced).casefold().split()


def of_act(name: str, content: frozenset[str] = frozenset()) -> str:
    """The family of a type or mark; `content` are names that count as content whatever they are."""
    return _named(name, content) or "other acts"


def of_trait(name: str, content: frozenset[str] = frozenset()) -> str:
    """The family of a trait or column."""
    return _named(name, content) or "attributes"


def _named(name: str, content: Iterable[str]) -> str:
    parts = words(name)
    joined = "_".join(parts)
    if joined in {"_".join(words(each)) for each in content}:
        return "content"
    if joined in _WHOLE:
        return _WHOLE[joined]
    for family, beginnings in _BEGINNINGS.items():
        if any(part.startswith(beginnings) for part in parts):
            return family
    return ""


def seniority(title: str) -> str:
    """How senior a job title is: one of SENIORITIES, `other`, or '' where there is none."""
    parts = frozenset(words(title))
    found = (rank for rank, signs in SENIORITIES.items() if parts & signs)
    return next(found, "other") if parts else ""
