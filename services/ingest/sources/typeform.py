"""Typeform's webhook: one response to a form a request, signed by HMAC-SHA256 over the raw body.

Answers are traits, named by the reference that the form's maker gave the question, else by its
words. A hidden field goes where its name belongs. A legal block permits mails, in the words shown,
unless its reference begins with `terms` or `privacy`; so does a yes, in whatever words, to a
question with the reference `consent`.

Typeform repeats for hours and switches a webhook off that answers 404 or 410:
neither is ever answered here.
"""

import base64
import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Remarked,
    Sample,
    Secret,
    SetupGuide,
    Source,
)
from services.ingest.sources.permissions import Stated, ticked
from services.ingest.sources.reading.json import TOO_DEEP, UNREADABLE, is_deep, refused
from services.ingest.sources.reading.lenient import lenient
from services.ingest.sources.reading.signatures import fitting, new_text, same
from services.ingest.sources.remarks import also_remarked, remarked
from services.shared.clock import rfc3339
from services.shared.contracts.consent_words import KNOWN_WORDS, ConsentWords
from services.shared.playbook.expressions import snake

SIGNATURE = "Typeform-Signature"
# references that Typeform chose
GENERATED = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-HJKMNP-TV-Z]{26}")
RECALLED = re.compile(r"\{\{[^{}]*\}\}")  # an earlier answer within a question
MAX_NAME = 100
# types with a single value
PLAIN = ("text", "email", "phone_number", "url", "file_url", "date", "boolean", "number")
OTHER_LEGAL = ("terms", "privacy")
HIDDEN = {
    "user_id": "user_id", "anonymous_id": "anonymous_id", "touch_id": "touch_id",
    "content_id": "content_id",
    "product": "product", "company": "company", "utm_source": "source", "source": "source",
    "utm_campaign": "campaign",
    "campaign": "campaign",
}  # fmt: skip  # fields of an interaction by names of hidden fields


class Question(msgspec.Struct):
    """The question of an answer, and in the definition its words."""

    id: str = ""
    ref: str | None = None
    type: str | None = None
    title: str | None = None


class Choice(msgspec.Struct):
    """What was chosen, or written in."""

    label: str | None = None
    other: str | None = None


class Choices(msgspec.Struct):
    """The same of several."""

    labels: list[str] | None = None
    other: str | None = None


class Answer(msgspec.Struct):
    """An answer; its value stands under the name of its type."""

    type: str
    field: Question
    text: str | None = None
    email: str | None = None
    phone_number: str | None = None
    url: str | None = None
    file_url: str | None = None
    date: str | None = None
    boolean: bool | None = None
    number: int | float | None = None
    choice: Choice | None = None
    choices: Choices | None = None


class Variable(msgspec.Struct):
    """A value that the form's logic computed."""

    key: str
    text: str | None = None
    number: int | float | None = None


class Calculated(msgspec.Struct):
    """The quiz's result."""

    score: int | float | None = None


class Definition(msgspec.Struct):
    """The form."""

    title: str | None = None
    fields: list[Question] = []


class FormResponse(msgspec.Struct):
    """A submitted form."""

    form_id: str = ""
    token: str = ""
    submitted_at: datetime | None = None
    hidden: dict[str, Any] | None = None
    definition: Definition | None = None
    answers: list[Answer] | None = None
    variables: list[Variable] | None = None
    calculated: Calculated | None = None


class TypeformWebhook(msgspec.Struct):
    """The body."""

    event_type: str
    event_id: str = ""
    form_response: FormResponse | None = None


NEEDED = frozenset({"/event_type", "/form_response", "/form_response/submitted_at"})


def parse(request: InboundRequest) -> list[Parsed]:
    """The one response; nothing for events of other types, such as a form that was begun
    and left.
    """
    if is_deep(request.body):
        return [refused(request.body, TOO_DEEP)]
    try:
        event, remarks = lenient(request.body, TypeformWebhook, NEEDED)
    except UNREADABLE as error:
        return [refused(request.body, error)]
    response = event.form_response
    return (
        [also_remarked(_read(response, event.event_id, request.words.consent), remarks)]
        if event.event_type == "form_response" and response
        else []
    )


def _read(
    response: FormResponse, event_id: str, words: ConsentWords = KNOWN_WORDS
) -> Item | Remarked:
    hidden = {
        name.lower(): text
        for name, value in (response.hidden or {}).items()
        if (text := _text(value))
    }
    titles = (
        {field.id: field.title or "" for field in response.definition.fields}
        if response.definition
        else {}
    )
    answers = [(_name(answer.field, titles), answer) for answer in response.answers or ()]
    address = next(
        (answer for _, answer in answers if answer.type == "email" and answer.email), None
    )
    consents = {name for name, answer in answers if _permits(name, answer)}
    stated = [
        ticked(_ticked(answer), words, name, titles.get(answer.field.id, ""))
        for name, answer in answers
        if name in consents
    ]
    traits = {
        name: value
        for name, answer in answers
        if name not in consents and answer is not address and (value := _value(answer)) is not None
    }
    fields: dict[str, Any] = {
        field: hidden[name] for name, field in reversed(HIDDEN.items()) if name in hidden
    }
    if isinstance(company := traits.pop("company", None), str):
        fields["company"] = company
    item = Item(
        id=response.token or event_id,
        type="form_submitted",
        occurred_at=response.submitted_at,
        email=(address and address.email) or hidden.get("email", ""),
        consent=tuple(consent for each in stated for consent in each.consents),
        traits=traits,
        properties=_properties(response, hidden) | _not_understood(stated),
        **fields,
    )
    return remarked(item, [remark for each in stated for remark in each.remarks])


def _not_understood(stated: Sequence[Stated]) -> dict[str, Any]:
    unknown = ", ".join(each.unknown for each in stated if each.unknown)
    return {"consent": unknown[:MAX_NAME]} if unknown else {}


def _properties(response: FormResponse, hidden: dict[str, str]) -> dict[str, Any]:
    variables = {
        variable.key: variable.text if variable.number is None else variable.number
        for variable in response.variables or ()
    }
    score = (
        {"score": response.calculated.score}
        if response.calculated and response.calculated.score is not None
        else {}
    )
    rest = {name: value for name, value in hidden.items() if name not in HIDDEN and name != "email"}
    return {**rest, **variables, **score, "form": response.form_id}


def _name(field: Question, titles: dict[str, str]) -> str:
    """A trait's name."""
    if field.ref and not GENERATED.fullmatch(field.ref):
        return snake(field.ref)[:MAX_NAME]
    if field.type == "phone_number":
        return "phone"
    return snake(RECALLED.sub(" ", titles.get(field.id, "")))[:MAX_NAME] or field.id


def _value(answer: Answer) -> Any:
    """What was answered; None for nothing, for a legal block, and for types that we do not know."""
    if answer.field.type == "legal":
        return None
    if answer.type == "choice":
        return (answer.choice.label or answer.choice.other) if answer.choice else None
    if answer.type == "choices":
        chosen = answer.choices or Choices()
        return [*(chosen.labels or ()), *([chosen.other] if chosen.other else ())] or None
    return getattr(answer, answer.type) if answer.type in PLAIN else None


def _permits(name: str, answer: Answer) -> bool:
    """Whether the question asks for the permission to send mails."""
    legal = answer.field.type == "legal" and not name.startswith(OTHER_LEGAL)
    return legal or name == "consent"


def _ticked(answer: Answer) -> Any:
    """What was answered to a question for permission; None where that is nothing."""
    return answer.boolean if answer.type == "boolean" else _value(answer)


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value).strip()


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The secret that fits. Raises Reject `not-connected`, `signature`."""
    given = request.headers.get(SIGNATURE.lower(), "")
    return fitting(secrets, lambda secret: same(given, _signature(secret, request.body)), SIGNATURE)


def _signature(secret: str, body: bytes) -> str:
    return f"sha256={base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()}"


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """Signs as Typeform does."""
    return sample._replace(headers={**sample.headers, SIGNATURE: _signature(secret, sample.body)})


def sample(address: str, now: datetime) -> Sample:
    """Somebody asks for a demo and permits mails."""
    questions = [
        {
            "id": "JwWggjAKtOkA",
            "ref": "first_name",
            "type": "short_text",
            "title": "What is your first name?",
        },
        {"id": "SMEUb7VJz92Q", "ref": "email", "type": "email", "title": "Where may we write to?"},
        {
            "id": "RUqkXSeXBXSd",
            "ref": "consent",
            "type": "legal",
            "title": "Write to me once a week",
        },
    ]
    answers: list[dict[str, Any]] = [
        {"type": "text", "text": "Ann"},
        {"type": "email", "email": address},
    ]
    answers.append({"type": "boolean", "boolean": True})
    for answer, question in zip(answers, questions, strict=True):
        answer["field"] = {name: question[name] for name in ("id", "ref", "type")}
    response = {
        "form_id": "demo",
        "token": uuid.uuid4().hex,
        "submitted_at": rfc3339(now),
        "definition": {"id": "demo", "title": "Ask for a demo", "fields": questions},
        "answers": answers,
    }
    return Sample(
        msgspec.json.encode(EXAMPLE | {"event_id": uuid.uuid4().hex, "form_response": response}),
        "application/json",
    )


EXAMPLE = {
    "event_id": "LtWXD3crgy",
    "event_type": "form_response",
    "form_response": {"form_id": "demo", "token": "a3a12ec67a"},
}
SOURCE = Source(
    "typeform",
    parse,
    ("/v1/hooks/typeform",),
    body=TypeformWebhook,
    example=EXAMPLE,
    stop_status=200,
    setup=SetupGuide(
        "Typeform",
        [
            "Run `ripeline sources connect typeform`: it shows a new secret, once.",
            "At Typeform open the form, Connect, Webhooks, add one with the address {address}, "
            "enter the secret, switch it on.",
            "Give questions whose answers count a reference of their own: `title`, "
            "`company_size`. It is the trait's name.",
            "For a form that raises a hand add its id to `pages` in score.yaml; `View "
            "deliveries` sends a test.",
        ],
    ),
    verify=verify,
    sample=sample,
    sign=sign,
    new_secret=new_text,
)
