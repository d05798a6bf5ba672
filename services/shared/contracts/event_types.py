"""The types of interactions that Ripeline knows, each with its sentence, and what some share.

Any other type is stored as well, and weighs nothing until the playbook gives it a mark.
"""

from enum import StrEnum


class EventType(StrEnum):
    """A known type; `phrase` says in words what somebody did."""

    phrase: str

    def __new__(cls, value: str, phrase: str) -> "EventType":
        member = str.__new__(cls, value)
        member._value_ = value
        member.phrase = phrase
        return member

    # on the site and in forms
    PAGE_VIEWED = "page_viewed", "viewed a page"
    LINK_CLICKED = "link_clicked", "followed a link"
    PRICING_VIEWED = "pricing_viewed", "looked at prices"
    FORM_SUBMITTED = "form_submitted", "sent a form"
    CONTENT_DOWNLOADED = "content_downloaded", "downloaded"
    VIDEO_WATCHED = "video_watched", "watched a video"
    ENQUIRED = "enquired", "enquired"
    DEMO_REQUESTED = "demo_requested", "asked for a demo"
    TRIAL_STARTED = "trial_started", "started a trial"
    WEBINAR_REGISTERED = "webinar_registered", "registered for a webinar"
    SURVEY_ANSWERED = "survey_answered", "answered a survey"
    PREFERENCE_SET = "preference_set", "set a preference"

    # elsewhere, and in talks
    WEBINAR_ATTENDED = "webinar_attended", "attended a webinar or event"
    EVENT_ATTENDED = "event_attended", "attended a webinar or event"
    CALL_ATTEMPTED = "call_attempted", "was called and not reached"
    CALL_EXPIRED = "call_expired", "was not called in time"
    CALL_HELD = "call_held", "talked with us on the phone"
    MEETING_HELD = "meeting_held", "met us"
    SOCIAL_ENGAGED = "social_engaged", "reacted in a social network"
    AD_CLICKED = "ad_clicked", "clicked an advertisement"
    NOT_NOW = "not_now", "said “not now”"

    # with mail
    EMAIL_PROCESSED = "email_processed", "is about to receive a mail"
    EMAIL_SENT = "email_sent", "was sent a mail by another tool"
    EMAIL_DELIVERED = "email_delivered", "received a mail"
    EMAIL_DROPPED = "email_dropped", "was not written to by the mail tool"
    EMAIL_BOUNCED = "email_bounced", "could not be reached by mail"
    EMAIL_OPENED = "email_opened", "opened a mail"
    EMAIL_CLICKED = "email_clicked", "clicked in a mail"
    EMAIL_REPLIED = "email_replied", "replied"
    EMAIL_COMPLAINED = "email_complained", "called a mail spam"
    EMAIL_CHANGED = "email_changed", "changed their address"
    UNSUBSCRIBED = "unsubscribed", "unsubscribed or complained"
    RESUBSCRIBED = "resubscribed", "came back to one of the mail tool's lists"

    # who somebody is, and what they permit
    IDENTIFIED = "identified", "told who they are"
    GROUPED = "grouped", "was assigned to a company"
    ALIASED = "aliased", "was joined with another id"
    IDENTITY_REVIEWED = "identity_reviewed", "had their identity reviewed"
    CONSENT_GIVEN = "consent_given", "gave consent"
    CONSENT_WITHDRAWN = "consent_withdrawn", "withdrew consent"

    # what sales reports
    SALES_ACCEPTED = "sales_accepted", "was accepted by sales"
    SALES_REJECTED = "sales_rejected", "was rejected by sales"
    SALES_DISQUALIFIED = "sales_disqualified", "was disqualified by sales"
    SALES_RETURNED = "sales_returned", "was given back by sales"
    SALES_UNDONE = "sales_undone", "had what sales had said of them taken back"
    OPPORTUNITY_OPENED = "opportunity_opened", "became an opportunity"
    WON = "won", "was won"
    LOST = "lost", "was lost"
    REFUNDED = "refunded", "got its money back"
    CHURNED = "churned", "is a customer no more"
    PURCHASED = "purchased", "bought"

    # our own
    TOUCH_SENT = "touch_sent", "was sent a touch"


TOUCH_SENT = EventType.TOUCH_SENT.value  # our own sends, in the form of interactions

# What may be believed of whom; docs/errors.md has the same lists.
OURS_ALONE = frozenset({TOUCH_SENT})  # types that nobody else may post
# What no page can know, so that a key which stands in one may not say it, but our own links,
# senders who sign, and the company's servers and imports by a secret key: what became of a mail,
# what sales did, who is who. A page may report that somebody leaves: to believe that is safe.
NOT_FROM_PAGES = frozenset({
    "email_processed", "email_sent", "email_delivered", "email_dropped", "email_bounced",
    "email_opened", "email_clicked", "email_replied", "email_received", "email_complained",
    "email_changed", "calendar_answered", "resubscribed",
    "sales_accepted", "sales_rejected", "sales_disqualified", "sales_returned", "sales_undone",
    "opportunity_opened", "won", "lost", "refunded", "churned", "purchased", "identity_reviewed",
})  # fmt: skip
# ... and the bases of consents that no page can know: a confirmation from the mailbox itself
BASES_NOT_FROM_PAGES = frozenset({"double_opt_in"})
REFUSALS = frozenset({"unsubscribed", "email_complained", "consent_withdrawn"})
# Types that may give or take a consent without naming one.
CONSENT_TYPES = REFUSALS | {"consent_given", "email_bounced"}
# By which a mail is known to have reached its address, whoever opened it.
REACHED = frozenset({
    "email_delivered", "email_opened", "email_clicked", "email_replied", "email_complained",
})  # fmt: skip
# By which another tool tells that it has sent a mail; of one mail it may tell both.
MAILED = frozenset({"email_sent", "email_delivered"})
REQUESTS = frozenset({"demo_requested", "enquired", "trial_started"})
# What nobody does so often that the last of each type need ever be forgotten, however much follows.
MILESTONES = REQUESTS | {
    "form_submitted", "webinar_registered", "webinar_attended",
    "event_attended", "survey_answered", "email_replied", "not_now", "unsubscribed",
    "email_complained", "call_held", "meeting_held", "sales_accepted", "sales_rejected",
    "sales_disqualified", "sales_returned", "sales_undone", "opportunity_opened", "won", "lost",
    "refunded", "churned", "purchased",
}  # fmt: skip
# Acts during which the person is on our site, or has just come from a mail.
ON_SITE = REQUESTS | {
    "page_viewed", "form_submitted", "content_downloaded", "video_watched", "pricing_viewed",
    "webinar_registered", "survey_answered", "preference_set", "link_clicked", "email_clicked",
}  # fmt: skip
# Acts by which content counts as seen, and is not offered again.
CONSUMES_CONTENT = ON_SITE - {"preference_set"} | {"email_replied"}
# By which somebody answers without being on our site.
ANSWERS = frozenset({
    "email_replied", "survey_answered", "not_now", "webinar_attended", "event_attended",
    "call_held", "meeting_held",
})  # fmt: skip
