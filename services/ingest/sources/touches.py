"""Which of our mails another system's message id means: the Message-ID of a mail of ours is its
touch's id at our domain.
"""

import re

TOUCH = re.compile(r"<?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@[^<>\s]+>?", re.IGNORECASE)


def touch_of(*message_ids: object) -> str:
    """The touch of the first of the ids that is one of ours; '' where none is."""
    for given in message_ids:
        if isinstance(given, str) and (found := TOUCH.search(given)):
            return found[1].lower()
    return ""
