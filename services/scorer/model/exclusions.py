"""Who is no lead at all, by the playbook's rules (D7)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.shared.playbook.sections import Exclusion


class Exclusions:
    """The playbook's rules: competitors, partners, employees, test addresses."""

    def __init__(self, rules: Iterable[Exclusion]) -> None:
        self._rules = list(rules)
        self._domains = tuple(f".{domain}" for rule in self._rules for domain in rule.domains)
        self._emails = frozenset(email for rule in self._rules for email in rule.emails)
        self._values = [
            (rule.trait, frozenset(value.lower() for value in rule.one_of))
            for rule in self._rules
            if rule.trait
        ]

    def reason(self, emails: Sequence[str], traits: Mapping[str, Any]) -> str:
        """The reason for which these are not a lead's addresses or traits; '' where they are."""
        suspect = not self._emails.isdisjoint(emails) or any(
            _within(email, self._domains) for email in emails
        )
        if not suspect and not any(
            str(traits[trait]).lower() in values
            for trait, values in self._values
            if trait in traits
        ):
            return ""  # nearly everybody
        return next((rule.reason for rule in self._rules if _excludes(rule, emails, traits)), "")


def _within(email: str, domains: tuple[str, ...]) -> bool:
    """Whether the address lies in one of the domains, each with its dot in front, or below."""
    return f".{email.rpartition('@')[2]}".endswith(domains)


def _excludes(rule: Exclusion, emails: Sequence[str], traits: Mapping[str, Any]) -> bool:
    domains = tuple(f".{domain}" for domain in rule.domains)
    value = traits.get(rule.trait) if rule.trait else None
    return (
        (value is not None and str(value).lower() in {name.lower() for name in rule.one_of})
        or not set(rule.emails).isdisjoint(emails)
        or any(_within(email, domains) for email in emails)
    )
