"""Whether a person or a machine clicks and opens: a scanner, a preview, a prefetch."""

import re
from collections import OrderedDict
from collections.abc import Mapping

from services.ingest.sources.visitors import CRAWLER

WITHIN_S = 5.0  # nobody follows two different links of one mail within this time
MAX_MAILS = 20_000  # whose recent clicks are remembered
PREFETCH_HEADERS = ("purpose", "sec-purpose", "x-purpose", "x-moz")
BROWSERS = ("Mozilla/", "Opera/")
SECURITY = (
    CRAWLER + "|scanner|barracuda|mimecast|proofpoint|urldefense|safelinks|messagelabs|symantec"
    r"|fireeye|trellix|forcepoint|zscaler|sophos|ironport|ciscosecure|fortinet|fortimail|trendmicro|\btmes\b|checkpoint"
)
SCANNERS = re.compile(SECURITY, re.IGNORECASE)
MACHINES = re.compile(
    f"{SECURITY}|slurp|preview|prefetch|headless|facebookexternalhit|whatsapp|ms-?office|googleimageproxy|yahoomailproxy",
    re.IGNORECASE,
)
APPLE = "Mozilla/5.0"  # the whole user agent of Apple's mail privacy protection


def is_machine_click(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a machine follows a link: it names itself, is no browser, or prefetches.

    Every browser's name begins with Mozilla/; `cubot` is a telephone. Image proxies never follow
    links.
    """
    agent = headers.get("user-agent", "")
    return (
        _is_prefetch(method, headers)
        or not agent.startswith(BROWSERS)
        or bool(MACHINES.search(agent))
    )


def is_machine_open(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a machine loads the open pixel.

    Mail programs go by many names, so only known scanners are machines. The proxies of Gmail and
    Yahoo load a picture when the person opens the mail: that is the person's open. Apple's privacy
    protection loads every picture of every mail that was delivered, under the bare name
    Mozilla/5.0: that says nothing of the person.
    """
    agent = headers.get("user-agent", "").strip()
    return _is_prefetch(method, headers) or agent in ("", APPLE) or bool(SCANNERS.search(agent))


def _is_prefetch(method: str, headers: Mapping[str, str]) -> bool:
    return method == "HEAD" or any(
        "pre" in headers.get(name, "").lower() for name in PREFETCH_HEADERS
    )


class RecentClicks:
    """Which links of a mail were followed in the last seconds, by anybody.

    In memory and of this process alone: behind several replicas the links of one scan may go to
    different ones, and are then not seen together. What a scanner does under its own name, or with
    the hidden link, is seen by each.
    """

    def __init__(self, max_mails: int = MAX_MAILS) -> None:
        self._max_mails = max_mails
        self._by_touch: OrderedDict[str, dict[str, float]] = OrderedDict()

    def others(self, touch_id: str, link: str, now: float) -> set[str]:
        """Records that this link of the mail is followed (`now` in s); returns which other links of
        it were followed within `WITHIN_S`.
        """
        before = self._by_touch.pop(touch_id, {})
        recent = {name: at for name, at in before.items() if now - at <= WITHIN_S}
        self._by_touch[touch_id] = recent | {link: now}
        if len(self._by_touch) > self._max_mails:
            self._by_touch.popitem(last=False)
        return set(recent) - {link}
