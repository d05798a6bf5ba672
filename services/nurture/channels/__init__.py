"""Channels: how a touch leaves. Each sends one message and returns once it is taken.

They raise Reject for what can never be sent, Retry where a later attempt may work,
`OutcomeUnknown`, `ServerUnusable` and `Halted`.
"""


class OutcomeUnknown(Exception):
    """The connection broke after the message had begun: it may have arrived, so it is not sent
    again.
    """


class Halted(Exception):
    """Sending was stopped before the message had begun: nothing has been sent."""


class ServerUnusable(Exception):
    """The server is away or refuses us, whatever the message: nothing has been sent, and nothing
    will be until that is mended.
    """
