"""What an interaction means under the playbook: its type, content, signal for the filter and rule
for engagement.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from services.scorer.model.state import packed
from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import Interaction
from services.shared.playbook.sections import Content, Playbook
from services.shared.playbook.stage_model import MarkOfContent
from services.shared.playbook.urls import UrlMatcher

NOTHING = -1
MEMORY = 100_000
OUTCOMES = {
    "purchased": "purchase",
    "won": "purchase",
    "lost": "restart",
    "sales_rejected": "rejection",
    "refunded": "refund",
    "churned": "refund",
}
SEEN_BY_URL = frozenset({"page_viewed", "link_clicked"})


class Interpretation(NamedTuple):
    """`signal` names a mark or a special of the filter, with its code; `rule` numbers an engagement
    rule, −1 for none.

    `touch_part` is '', send, open or click; what does not `weigh` makes no instant in the fold.
    `step` is what the fold counts (`state.packed`), None where the touch decides or nothing weighs.
    """

    type: str
    content: str = ""
    signal: str = ""
    code: int = NOTHING
    rule: int = NOTHING
    touch_part: str = ""
    weighs: bool = False
    step: int | None = None


class Interpreter:
    """Reads interactions; equal facts are read once."""

    def __init__(
        self, playbook: Playbook, codes: Mapping[str, int], rules: Mapping[str, int]
    ) -> None:
        self._model, self._codes, self._rules = playbook.model, codes, rules
        self._content = playbook.content_by_id
        self._addresses = UrlMatcher(
            (url, item.id) for item in playbook.live_content for url in (item.url, *item.urls)
        )
        self._forms = {form: item.id for item in playbook.live_content for form in item.forms}
        self._pages = UrlMatcher((url, rule.type) for rule in playbook.pages for url in rule.urls)
        self._form_types = {form: rule.type for rule in playbook.pages for form in rule.forms}
        self._known: dict[tuple[Any, ...], Interpretation] = {}
        # of a person's acts that say it by their type alone, but for their content
        self.by_type: dict[str, Interpretation] = {
            type_: self._read(Interaction(id="", type=type_), "")
            for type_ in (*self._model.mark_of_type, *OUTCOMES, self._model.outcome)
            if self._speaks_for_itself(type_)
        }

    def interpret(self, event: Interaction) -> Interpretation:
        """The reading of one interaction."""
        form: Any = None
        key: tuple[Any, ...] = (event.type, event.url)  # of most acts nothing else decides
        if event.machine or event.content_id or event.touch_id or "form" in event.properties:
            form = event.properties.get("form")
            key += (event.content_id, event.machine, event.touch_id == "", form)
        try:
            return self._known[key]
        except (KeyError, TypeError):
            reading = self._read(event, str(form or ""))
            if len(self._known) > MEMORY:
                self._known.clear()
            if form is None or isinstance(form, str):
                self._known[key] = reading
            return reading

    def _speaks_for_itself(self, type_: str) -> bool:
        mark = self._model.mark_of_type.get(type_, "")
        depends = mark == "given_send" or isinstance(mark, MarkOfContent)
        return not depends and type_ not in SEEN_BY_URL | {"form_submitted", TOUCH_SENT}

    def _read(self, event: Interaction, form: str) -> Interpretation:
        type_, url, machine = event.type, event.url, event.machine
        content = event.content_id or self._forms.get(form, "")
        if (
            not content
            and url
            and type_
            in SEEN_BY_URL
            | {"email_clicked", "form_submitted", "content_downloaded", "video_watched"}
        ):
            content = self._addresses.find(url) or ""
        if type_ == "page_viewed" and not content and url:
            type_ = self._pages.find(url) or type_
        elif type_ == "form_submitted":
            type_ = self._form_types.get(form, type_)
        mark = self._model.mark_of_type.get(type_)
        if type_ == TOUCH_SENT:
            return Interpretation(type_, content, touch_part="send", weighs=True)
        if mark == "given_send":
            if not event.touch_id:
                return Interpretation(type_, content)
            return Interpretation(
                type_,
                content,
                touch_part="open" if type_ == "email_opened" else "click",
                weighs=True,
            )
        if machine:
            return Interpretation(type_, content)
        if type_ == self._model.outcome:
            return self._signal(type_, content, "outcome")
        if type_ in OUTCOMES:
            return self._signal(type_, content, OUTCOMES[type_])
        return self._signal(type_, content, self._by_content(type_, content, mark) if mark else "")

    def _signal(self, type_: str, content: str, signal: str) -> Interpretation:
        code = self._codes.get(signal, NOTHING)
        rule = self._rules.get(type_, self._rules.get(signal, NOTHING))
        if code == rule == NOTHING:
            return Interpretation(type_, content, signal)
        return Interpretation(
            type_, content, signal, code, rule, weighs=True, step=packed(code, rule)
        )

    def _by_content(self, type_: str, content_id: str, mark: str | MarkOfContent) -> str:
        """The content's own mark where the act was about content; else the type's mark, or ''."""
        item = self._content.get(content_id)
        if item and (type_ in SEEN_BY_URL or isinstance(mark, MarkOfContent)):
            return self._mark_of(item)
        return (mark.otherwise or "") if isinstance(mark, MarkOfContent) else mark

    def _mark_of(self, item: Content) -> str:
        stages = [stage for stage in self._model.stages if stage in item.stages]
        if not stages:
            return ""
        mark = f"content_{stages[-1]}"
        return mark if mark in self._model.rate else "visit"
