"""Channels: how a touch leaves. Each sends one message and returns once it is taken.

They raise Reject for what can never be sent, Retry where a later attempt may work,
`OutcomeUnknown`, `ServerUnusable`, `ReceiverRefuses` and `Halted`.
"""

from services.shared.errors import Reject


class OutcomeUnknown(Exception):
    """The connection broke after the message had begun: it may have arrived, so it is not sent
    again.
    """


class Bounced(Reject):
    """The receiver takes no mail like this one at the address."""


class Halted(Exception):
    """Sending was stopped before the message had begun: nothing has been sent."""


class ReceiverRefuses(Exception):
    """The receiver has something against the sender, whatever the message: nothing goes there for a
    while.
    """


class ServerUnusable(Exception):
    """The server is away or refuses us, whatever the message: nothing has been sent, and nothing
    will be until that is mended.
    """
