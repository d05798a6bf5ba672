"""Values of settings as people write them: in quotes, blank, as a list with commas."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic_settings import EnvSettingsSource, SecretsSettingsSource

BLANK_SAYS_SOMETHING = {"rate_per_key", "rate_per_address"}  # no limit; of others, the default
QUOTES = ("'", '"')


def as_meant(written: Mapping[str, Any]) -> dict[str, Any]:
    """The values without blanks and quotes around them, and without those that are blank."""
    meant = {name: _unquoted(value) for name, value in written.items()}
    return {n: value for n, value in meant.items() if value != "" or n in BLANK_SAYS_SOMETHING}


def _unquoted(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
        return value[1:-1].strip()
    return value


class Variables(EnvSettingsSource):
    """The variables of the environment, as they are meant."""

    def __call__(self) -> dict[str, Any]:
        return as_meant(super().__call__())


class SecretFiles(SecretsSettingsSource):
    """The files of secrets, as they are meant."""

    def __call__(self) -> dict[str, Any]:
        return as_meant(super().__call__())


def listed(text: str) -> Any:
    """A list that is JSON, or has commas between. Raises ValueError."""
    if not text.startswith("["):
        return [part for part in map(_unquoted, text.split(",")) if part]
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError('write a, b, c or a JSON list: ["a", "b"]') from None
