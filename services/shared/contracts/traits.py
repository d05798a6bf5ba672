"""Traits that have a meaning of their own, whether or not the playbook names them."""

from services.shared.contracts import preferences

# in names and greetings, in choosing mails and their hour
KNOWN_TRAITS = frozenset({
    "name", "first_name", "firstName", "last_name", "lastName", "company", "title", "language",
    "country", "timezone", preferences.TOPICS, preferences.PACE, preferences.PAUSED_UNTIL,
})  # fmt: skip
