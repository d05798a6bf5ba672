"""Who visits: a crawler or an assistant's live fetch, or a person whom an assistant sent."""

import re
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import parse_qs, urlsplit

from services.shared.playbook.machines import Machines

# what crawlers call themselves; `cubot` is a telephone
CRAWLER = r"(?<!cu)bot\b|crawl|spider"
MAX_AGENT = 500  # characters of a user agent that are looked at
MAX_URL = 2_000


class Visitors:
    """What the playbook knows of machines and assistants."""

    def __init__(self, rules: Machines = Machines()) -> None:
        self._agents = re.compile("|".join([CRAWLER, *map(re.escape, rules.agents)]), re.IGNORECASE)
        self._networks: dict[tuple[int, int], set[int]] = {}
        for network in map(ip_network, rules.networks):
            shift = network.max_prefixlen - network.prefixlen
            known = self._networks.setdefault((network.version, shift), set())
            known.add(int(network.network_address) >> shift)
        self._assistants = tuple(host.lower() for host in rules.assistants)

    def is_machine(self, user_agent: str, address: str = "") -> bool:
        """Whether the agent names a machine, or the address is one of its operator's."""
        if user_agent and self._agents.search(user_agent[:MAX_AGENT]):
            return True
        return bool(address) and self._is_known(address)

    def _is_known(self, address: str) -> bool:
        try:
            found = ip_address(address.strip())
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        number, version = int(found), found.version
        return any(
            number >> shift in known
            for (of_version, shift), known in self._networks.items()
            if of_version == version
        )

    def assistant(self, referrer: str, url: str) -> str:
        """The host of the assistant that somebody comes from, by the page before or by the
        `utm_source` of the page itself; '' where it is none.
        """
        return self._named(_host(referrer)) or self._named(_utm_source(url))

    def _named(self, host: str) -> str:
        return next(
            (name for name in self._assistants if host == name or host.endswith(f".{name}")), ""
        )


def _host(url: str) -> str:
    if not url or len(url) > MAX_URL:
        return ""
    try:
        return urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""


def _utm_source(url: str) -> str:
    if "utm_source=" not in url or len(url) > MAX_URL:
        return ""
    try:
        return parse_qs(urlsplit(url).query, max_num_fields=100).get("utm_source", [""])[0].lower()
    except ValueError:
        return ""
