"""SPF (RFC 7208): a domain's policy, how many questions it costs, and whether it permits an
address.
"""

import ipaddress
from typing import NamedTuple

from services.ops.commands.names import Names

MOST_LOOKUPS = 10  # RFC 7208, 4.6.4
ASKING = ("include", "a", "mx", "ptr", "exists", "redirect")
QUALIFIERS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


class Spf(NamedTuple):
    """`policies` are all records found; `ending` is what `all` says; `permits` the given addresses
    that pass; `problem` is why it is none.
    """

    policies: list[str]
    lookups: int = 0
    ending: str = ""
    permits: frozenset[str] = frozenset()
    problem: str = ""


def read_spf(names: Names, domain: str, addresses: frozenset[str]) -> Spf:
    """Raises Unanswered."""
    policies = policies_of(names, domain)
    if len(policies) != 1:
        return Spf(policies, problem=f"{len(policies) or 'no'} SPF records")
    walk = _Walk(names, addresses)
    ending = walk.of(domain, policies[0])
    return Spf(policies, walk.lookups, ending, frozenset(walk.permits), walk.problem)


def policies_of(names: Names, domain: str) -> list[str]:
    records = names.ask(domain, "TXT")
    return [each for each in records if each.lower().split(" ", 1)[0] == "v=spf1"]


class _Walk:
    """Through a policy and those that it includes."""

    def __init__(self, names: Names, addresses: frozenset[str]) -> None:
        self._names = names
        self._addresses = {address: ipaddress.ip_address(address) for address in addresses}
        self.lookups, self.problem = 0, ""
        self.permits: set[str] = set()

    def of(self, domain: str, policy: str) -> str:
        """Returns what its `all` says, '' where it has none."""
        for term in policy.split()[1:]:
            qualifier, mechanism = (term[0], term[1:]) if term[0] in QUALIFIERS else ("+", term)
            name, mark, value = _parts(mechanism)
            if name == "all":
                return QUALIFIERS[qualifier]
            if name in ASKING:
                self.lookups += 1
                if self.lookups > MOST_LOOKUPS:
                    self.problem = f"more than {MOST_LOOKUPS} look-ups"
                    return ""
            if "%" in value:  # a macro: depends on the mail
                continue
            if name in ("include", "redirect"):
                ending = self._other(value)
                if name == "redirect":
                    return ending
            elif qualifier == "+":
                self._match(name, value or domain, mark, domain)
        return ""

    def _other(self, domain: str) -> str:
        policies = policies_of(self._names, domain)
        if len(policies) != 1:
            self.problem = f"{domain}, which it includes, has {len(policies) or 'no'} SPF records"
            return ""
        return self.of(domain, policies[0])

    def _match(self, name: str, value: str, mark: str, domain: str) -> None:
        try:
            if name in ("ip4", "ip6"):
                network = ipaddress.ip_network(value, strict=False)
                self.permits |= {text for text, ip in self._addresses.items() if ip in network}
            elif name in ("a", "mx"):
                host, _, length = value.partition("/")
                hosts = [host or domain]
                if name == "mx":
                    hosts = [each.split()[-1] for each in self._names.ask(hosts[0], "MX")][:10]
                for each in hosts:
                    self._match_host(each, length)
        except ValueError:
            self.problem = f"no address in {name}{mark}{value}"

    def _match_host(self, host: str, length: str) -> None:
        for found in (*self._names.ask(host, "A"), *self._names.ask(host, "AAAA")):
            suffix = f"/{length}" if length.isdecimal() and "." in found else ""
            self._match("ip4", f"{found}{suffix}", ":", host)


def _parts(mechanism: str) -> tuple[str, str, str]:
    """(name, mark, value) of `include:x`, `redirect=x`, `a/24`, `mx`."""
    for place, letter in enumerate(mechanism):
        if letter in ":=":
            return mechanism[:place].lower(), letter, mechanism[place + 1 :]
        if letter == "/":
            return mechanism[:place].lower(), "", mechanism[place:]
    return mechanism.lower(), "", ""
