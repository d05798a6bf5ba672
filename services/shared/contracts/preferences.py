"""What people ask of our mails: traits that their page writes and nurture obeys; the last word
counts, null lifts it.
"""

from datetime import timedelta

TOPICS = "mail_topics"  # a list of the topics that mails may be about
PACE = "mail_pace"  # one of GAPS
PAUSED_UNTIL = "mail_paused_until"  # the day from which mails may come again, as 2030-01-31
GAPS = {"weekly": timedelta(days=7), "monthly": timedelta(days=30)}  # between two mails, at least
