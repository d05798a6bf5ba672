"""How texts of mails are compared."""

import unicodedata


def folded(text: str) -> str:
    """Text without case and accents, its apostrophes straight."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    return "".join(character for character in plain if not unicodedata.combining(character))
