"""What an interaction means under the playbook: its type, content, signal for the filter and rule for engagement."""

from typing import NamedTuple

from services.shared.events import TOUCH_SENT, Interaction
from services.shared.playbook import AddressBook, Content, Playbook

NOTHING = -1
BY_CONTENT = "by the content's latest stage"
OUTCOMES = {"purchased": "purchase", "won": "purchase", "lost": "restart", "sales_rejected": "restart"}
SEEN_BY_URL = frozenset({"page_viewed", "link_clicked"})


class Reading(NamedTuple):
    """`signal` names a mark or a special of the filter, `act` an engagement rule; `about` is '', send, open or click."""

    type: str
    content: str = ""
    signal: str = ""
    act: str = ""
    about: str = ""

    @property
    def weighs(self) -> bool:
        """Whether it makes an instant in the fold at all."""
        return bool(self.signal or self.act or self.about)


class Reader:
    """Reads interactions; equal facts are read once."""

    def __init__(self, playbook: Playbook) -> None:
        self._model = playbook.model
        self._acts = playbook.engagement.acts
        self._content = playbook.content_by_id
        self._addresses = AddressBook((url, item.id) for item in playbook.content for url in (item.url, *item.urls))
        self._forms = {form: item.id for item in playbook.content for form in item.forms}
        self._pages = AddressBook((url, rule.type) for rule in playbook.pages for url in rule.urls)
        self._form_types = {form: rule.type for rule in playbook.pages for form in rule.forms}
        self._known: dict[tuple[str, str, str, str, bool, bool], Reading] = {}

    def read(self, event: Interaction) -> Reading:
        """The reading of one interaction."""
        form = event.properties.get("form", "")
        key = (event.type, event.content_id, event.url, str(form), event.machine, bool(event.touch_id))
        reading = self._known.get(key)
        if reading is None:
            if len(self._known) > 100_000:
                self._known.clear()
            reading = self._known[key] = self._read(*key)
        return reading

    def _read(self, type_: str, content_id: str, url: str, form: str, machine: bool, touched: bool) -> Reading:
        content = content_id or self._forms.get(form, "")
        if (
            not content
            and url
            and type_ in SEEN_BY_URL | {"email_clicked", "form_submitted", "content_downloaded", "video_watched"}
        ):
            content = self._addresses.find(url) or ""
        if type_ == "page_viewed" and not content and url:
            type_ = self._pages.find(url) or type_
        elif type_ == "form_submitted":
            type_ = self._form_types.get(form, type_)
        mark = self._model.mark_of_type.get(type_)
        if type_ == TOUCH_SENT:
            return Reading(type_, content, about="send")
        if mark == "given_send":
            if not touched or (machine and type_ != "email_opened"):
                return Reading(type_, content)
            return Reading(type_, content, about="open" if type_ == "email_opened" else "click")
        if machine:
            return Reading(type_, content)
        if type_ == self._model.outcome:
            return Reading(type_, content, signal="outcome")
        if type_ in OUTCOMES:
            return Reading(type_, content, signal=OUTCOMES[type_])
        signal = self._by_content(type_, content, mark) if mark else ""
        return Reading(type_, content, signal, self._act(type_, signal))

    def _by_content(self, type_: str, content_id: str, mark: str) -> str:
        """The content's own mark where the act was about content; else the type's mark, or nothing."""
        by_content = mark.startswith(BY_CONTENT)
        item = self._content.get(content_id)
        if item and (by_content or type_ in SEEN_BY_URL):
            return self._mark_of(item)
        return ("visit" if mark.endswith("else visit") else "") if by_content else mark

    def _mark_of(self, item: Content) -> str:
        stages = [stage for stage in self._model.stages if stage in item.stages]
        if not stages:
            return ""
        mark = f"content_{stages[-1]}"
        return mark if mark in self._model.rate else "visit"

    def _act(self, type_: str, signal: str) -> str:
        for name in (type_, signal):
            if name in self._acts:
                return name
        return ""
