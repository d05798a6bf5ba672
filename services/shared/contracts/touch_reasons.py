"""What a touch's status and reason may be; each value with the sentence that people read of it."""

from collections.abc import Mapping
from typing import Literal

TouchStatus = Literal["due", "sending", "sent", "unknown", "failed", "withheld"]
# why a touch is withheld
WithholdReason = Literal[
    "excluded", "unknown_stage", "history", "superseded", "holdout", "no_consent", "preference",
    "capped", "nothing_suitable", "sample", "after_loss", "program_ended", "skipped",
    "before_hand_off",
]  # fmt: skip
# what a touch waits for; '' where it waits for nothing
WaitReason = Literal[
    "", "ramp", "on_site", "quiet_hours", "capped", "preference", "paused", "with_sales", "silence",
    "pace", "calendar", "after_loss", "sender_ramp", "receiver_rate", "receiver_stopped",
]  # fmt: skip

STATUS_SENTENCES: Mapping[str, str] = {
    "due": "planned",
    "sending": "on its way",
    "sent": "sent",
    "unknown": "perhaps sent",
    "failed": "failed",
    "withheld": "not sent",
}
REASON_SENTENCES: Mapping[str, str] = {
    "": "",
    "excluded": "the playbook leaves it out: a competitor, partner, employee or test",
    "unknown_stage": "too little is known to say where the lead stands",
    "history": "the change lies too far in the past to answer it now",
    "superseded": "it was overtaken by what happened since",
    "holdout": "the company belongs to the comparison group, which is never nurtured",
    "no_consent": "nobody at this address has agreed to be written to",
    "preference": "the lead has asked for it to be so",
    "capped": "the lead has had as much mail as the playbook allows for now",
    "nothing_suitable": "the library holds nothing suitable that the lead has not had",
    "sample": "its text is a sample, which must not leave for a real mailbox",
    "after_loss": "the playbook says what follows after what sales reported",
    "program_ended": "the program is no more in the playbook",
    "skipped": "a person has skipped it",
    "before_hand_off": "what presses to buy waits until sales has taken the lead",
    "paused": "a person of the company has paused it",
    "with_sales": "sales is working with the lead",
    "silence": "the lead has left several touches unanswered, which slows down and pauses",
    "pace": "the next one comes at the lead's own pace",
    "calendar": "the account gets the same content by the calendar, for comparison",
    "sender_ramp": "a new sender begins with few mails a day",
    "receiver_rate": "its provider has had as many mails as it takes in an hour",
    "receiver_stopped": "nothing goes to its provider, for complaints or what it has against us",
    "ramp": "imported leads are written to over several days",
    "on_site": "the lead was on the site at that moment",
    "quiet_hours": "it is night, or no working day, where the lead lives",
}

# What people say that came of a call, and what comes of one that nobody answers in time
CallAnswer = Literal["reached", "not_reached", "not_now", "wrong_person", "do_not_call"]
CallOutcome = Literal[CallAnswer, "expired"]
