"""Who follows the links of our mails: a person, or a scanner, a preview, a prefetch."""

import re
from collections import OrderedDict
from collections.abc import Mapping

WITHIN_S = 5.0  # nobody follows two different links of one mail within this time
MOST = 20_000  # mails whose links were followed lately and that are kept in mind
AHEAD_OF_PEOPLE = ("purpose", "sec-purpose", "x-purpose", "x-moz")
BROWSERS = ("Mozilla/", "Opera/")
SECURITY = (
    r"(?<!cu)bot\b|crawl|spider|scanner|barracuda|mimecast|proofpoint|urldefense|safelinks|messagelabs|symantec|fireeye|trellix"
    r"|forcepoint|zscaler|sophos|ironport|ciscosecure|fortinet|fortimail|trendmicro|\btmes\b|checkpoint"
)
SCANNERS = re.compile(SECURITY, re.IGNORECASE)
MACHINES = re.compile(
    f"{SECURITY}|slurp|preview|prefetch|headless|facebookexternalhit|whatsapp|ms-?office|googleimageproxy|yahoomailproxy",
    re.IGNORECASE,
)
APPLE = "Mozilla/5.0"  # the whole of it


def follows(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a machine follows a link: it names itself, is no browser, or looks before the person
    does.

    Every browser's name begins with Mozilla/; `cubot` is a telephone. Image proxies never follow
    links.
    """
    agent = headers.get("user-agent", "")
    return _ahead(method, headers) or not agent.startswith(BROWSERS) or bool(MACHINES.search(agent))


def opens(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a machine loads the open pixel.

    Mail programs go by many names, so only known scanners are machines. The proxies of Gmail and
    Yahoo load a picture when the person opens the mail: that is the person's open. Apple's privacy
    protection loads every picture of every mail that was delivered, under the bare name
    Mozilla/5.0: that tells nothing of the person.
    """
    agent = headers.get("user-agent", "").strip()
    return _ahead(method, headers) or agent in ("", APPLE) or bool(SCANNERS.search(agent))


def _ahead(method: str, headers: Mapping[str, str]) -> bool:
    return method == "HEAD" or any(
        "pre" in headers.get(name, "").lower() for name in AHEAD_OF_PEOPLE
    )


class Followed:
    """Which links of a mail were followed in the last seconds, by anybody.

    In memory and of this process alone: behind several replicas the links of one scan may go to
    different ones, and are then not seen together. What a scanner does under its own name, or with
    the hidden link, is seen by each.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lately: OrderedDict[str, dict[str, float]] = OrderedDict()

    def others(self, touch_id: str, link: str, now: float) -> set[str]:
        """Notes that this link of the mail is followed (`now` in s); returns which other ones were,
        a moment ago.
        """
        before = self._lately.pop(touch_id, {})
        fresh = {name: at for name, at in before.items() if now - at <= WITHIN_S}
        self._lately[touch_id] = fresh | {link: now}
        if len(self._lately) > self._most:
            self._lately.popitem(last=False)
        return set(fresh) - {link}
