"""Channels: how a touch leaves. Each sends one message and returns once it is taken.

They raise Reject for what can never be sent, Retry where a later attempt may work, and
`OutcomeUnknown`.
"""


class OutcomeUnknown(Exception):
    """The connection broke after the message had begun: it may have arrived, so it is not sent
    again.
    """
