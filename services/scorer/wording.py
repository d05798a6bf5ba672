"""The page's plain words: who a lead is, what it did, what was decided about it and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.scorer.model.explanation import FitChange, Line
from services.scorer.model.interpretation import Interpretation
from services.shared.clock import DAY
from services.shared.contracts.events import Interaction, Touch
from services.shared.contracts.identity import OURS, Identifier, Kind
from services.shared.playbook.sections import Content

# from this likelihood on; shown until it is calibrated
BANDS = (("high", 0.25), ("some", 0.1), ("low", 0.0))
SURE = (("sure", 0.8), ("fairly sure", 0.6), ("not sure", 0.0))
LONGEST = 120

PHRASES = {
    "visit": "visited the site",
    "content_awareness": "took in content for people who see the problem",
    "content_consideration": "took in content for people who compare ways",
    "content_decision": "took in content for deciding",
    "webinar": "attended a webinar or event",
    "pricing": "looked at prices",
    "enquiry": "enquired",
    "demo": "asked for a demo",
    "reply": "replied",
    "conversation": "talked with us",
    "unsubscribe": "unsubscribed or complained",
    "open": "opened our mail",
    "no_open": "did not open our mail in time",
    "click": "clicked in our mail",
    "no_click": "did not click in our mail in time",
    "outcome": "became an opportunity",
    "purchase": "bought",
    "restart": "the opportunity ended, the journey starts anew",
}
SCANNED = "our mail was clicked, but a machine clicked in it within seconds"
ACTS = {
    "page_viewed": "viewed a page",
    "link_clicked": "followed a link",
    "form_submitted": "sent a form",
    "content_downloaded": "downloaded",
    "video_watched": "watched a video",
    "webinar_registered": "registered for a webinar",
    "survey_answered": "answered a survey",
    "preference_set": "set a preference",
    "not_now": "said “not now”",
    "trial_started": "started a trial",
    "call_attempted": "was called and not reached",
    "meeting_held": "met us",
    "call_held": "talked with us on the phone",
    "social_engaged": "reacted in a social network",
    "ad_clicked": "clicked an advertisement",
    "email_opened": "opened a mail",
    "email_clicked": "clicked in a mail",
    "email_delivered": "received a mail",
    "email_bounced": "could not be reached by mail",
    "email_complained": "called a mail spam",
    "email_processed": "is about to receive a mail",
    "email_dropped": "was not written to by the mail tool",
    "email_changed": "changed their address",
    "resubscribed": "came back to one of the mail tool's lists",
    "identified": "told who they are",
    "grouped": "was assigned to a company",
    "aliased": "was joined with another id",
    "identity_reviewed": "had their identity reviewed",
    "consent_given": "gave consent",
    "consent_withdrawn": "withdrew consent",
    "purchased": "bought",
    "sales_accepted": "was accepted by sales",
    "sales_rejected": "was rejected by sales",
    "sales_disqualified": "was disqualified by sales",
    "opportunity_opened": "became an opportunity",
    "won": "was won",
    "lost": "was lost",
}
CAUSES = {
    "event": "after an act of its own",
    "silence": "after silence",
    "late_evidence": "when older news arrived",
    "merge": "when two histories were joined",
    "model": "under a new model or playbook",
}
STATUSES = {
    "due": "planned",
    "sending": "on its way",
    "sent": "sent",
    "unknown": "perhaps sent",
    "failed": "failed",
    "withheld": "not sent",
}
REASONS = {
    "no_consent": "nobody at this address has agreed to be written to",
    "preference": "the lead has asked for it to be so",
    "capped": "the lead has had as much mail as the playbook allows for now",
    "quiet_hours": "it is night, or no working day, where the lead lives",
    "on_site": "the lead was on the site at that moment",
    "nothing_suitable": "the library holds nothing suitable that the lead has not had",
    "holdout": "the company belongs to the comparison group, which is never nurtured",
    "unknown_stage": "too little is known to say where the lead stands",
    "history": "the change lies too far in the past to answer it now",
    "superseded": "it was overtaken by what happened since",
    "sample": "its text is a sample, which must not leave for a real mailbox",
}  # fmt: skip


def band(likelihood: float | None) -> str:
    """low, some or high; '' where there is nothing left to predict."""
    return "" if likelihood is None else next(name for name, least in BANDS if likelihood >= least)


def chance(likelihood: float | None, *, calibrated: bool) -> str:
    """What people read of a likelihood: a band until it is calibrated on the company's own
    outcomes.
    """
    if likelihood is None:
        return "settled"
    return f"{100 * likelihood:.0f} %" if calibrated else band(likelihood)


def sureness(confidence: float) -> str:
    """How sure the belief is of its best stage."""
    return next(name for name, least in SURE if confidence >= least)


def plain(name: str) -> str:
    """A name of the playbook as people write it: `status_quo` is Status quo."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def signed(points: float) -> str:
    """+1.2, −0.4 or 0.0, with a true minus."""
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def who(traits: Mapping[str, Any], identifiers: Sequence[Identifier]) -> tuple[str, str]:
    """(name, what tells them apart): the best there is, down to a visitor's short id."""
    known: dict[Kind, str] = {}
    for one in identifiers:
        if not one.system.startswith(OURS):
            known.setdefault(one.kind, f"{one.system} {one.value}".strip())
    parts = [said(traits.get(part)) for part in ("first_name", "last_name")]
    name = said(traits.get("name")) or " ".join(part for part in parts if part)
    mail = known.get(Kind.EMAIL) or known.get(Kind.ROLE) or ""
    shown = name or mail or known.get(Kind.USER, "") or _stranger(known)
    company = said(traits.get("company"))
    rest = [part for part in (mail, company) if part and part != shown]
    return shown, " · ".join(rest)


def _stranger(known: Mapping[Kind, str]) -> str:
    if external := known.get(Kind.EXTERNAL):
        return external
    return f"Visitor {known[Kind.ANONYMOUS][:8]}" if Kind.ANONYMOUS in known else "Nameless lead"


def said(value: Any) -> str:
    """A trait's value as one short line."""
    text = " ".join(str(value).split()) if value is not None else ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def titled(content: str, library: Mapping[str, Content]) -> str:
    """A content's title, or its id where the playbook no longer has it."""
    item = library.get(content)
    return item.title if item else content


def did(
    data: Interaction, reading: Interpretation, library: Mapping[str, Content]
) -> tuple[str, str]:
    """(what the lead did, why it weighs nothing or '')."""
    named = reading.type if reading.type in ACTS else data.type
    phrase = (
        PHRASES.get(reading.touch_part)
        or ACTS.get(named)
        or PHRASES.get(reading.signal)
        or named.replace("_", " ")
    )
    if reading.signal in ("pricing", "demo", "enquiry"):
        phrase = PHRASES[reading.signal]
    if reading.content:
        phrase += f": “{titled(reading.content, library)}”"
    elif data.url:
        phrase += f": {said(data.url.partition('?')[0])}"
    if data.machine:
        return phrase, "a machine did it, so it weighs nothing"
    return phrase, "" if reading.weighs else "weighs nothing"


def moved(before: str, stage: str, cause: str) -> str:
    """An announcement in words."""
    start = (
        f"seen in {plain(stage)}" if before == "unknown" else f"{plain(before)} → {plain(stage)}"
    )
    return f"{start}, {CAUSES.get(cause, cause.replace('_', ' '))}"


def decided(touch: Touch, library: Mapping[str, Content]) -> str:
    """A touch's status and reason in words."""
    what = f"“{titled(touch.content, library)}”" if touch.content else "No touch"
    reason = reasoned(touch.reason)
    if touch.status == "withheld":
        return f"{what}{' not sent' if touch.content else ''}: {reason or 'withheld'}"
    return f"{what} {STATUSES[touch.status]}{f': {reason}' if reason else ''}"


def reasoned(reason: str) -> str:
    """A decision's reason in words."""
    return REASONS.get(reason, reason.replace("_", " "))


def line_text(line: Line) -> str:
    """A ledger line with the ids and addresses that its event names."""
    match line.kind:
        case "silence":
            return f"{_days(line.silence)} without a sign"
        case "machine":
            return SCANNED
        case "attributes":
            return _fit_text(line.fit) if line.fit else ""
    text = PHRASES.get(line.signal, line.signal.replace("_", " "))
    if line.content_id:
        return f"{text} ({line.content_id})"
    return f"{text} ({line.url.partition('?')[0][:LONGEST]})" if line.url else text


def line_in_words(line: Line, library: Mapping[str, Content]) -> str:
    """A ledger line as people read it: a content by its title."""
    if line.kind != "event" or not line.content:
        return line_text(line)
    phrase = PHRASES.get(line.signal, line.signal.replace("_", " "))
    return f"{phrase}: “{titled(line.content, library)}”"


def _fit_text(change: FitChange) -> str:
    why = "; ".join(change.reasons) or "no rule holds"
    return f"fit {change.before:g} → {change.after:g}: {why}"


def _days(span: int) -> str:
    days = span / DAY
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"


def ledger_note(ended_by: str) -> str:
    """What is to be said of a lead that an outcome ended; '' where there is none."""
    if not ended_by:
        return ""
    return f"The lead {PHRASES[ended_by]}: there is nothing left to predict."
