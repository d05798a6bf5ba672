"""Channels: how a touch leaves. Each sends one message and raises Reject (never), Retry (not yet)
or Uncertain.
"""


class Uncertain(Exception):
    """The wire broke after the message had begun: it may have arrived, so it is not sent again."""
