"""Crawlers and assistants: whose visits are machines', and whose pages send people."""

from ipaddress import ip_network

from pydantic import field_validator

from services.shared.playbook.frozen import FrozenModel


class Machines(FrozenModel):
    """Words in the user agents of crawlers and live fetches, the networks that they come from, and
    the hosts of assistants that people come from.
    """

    agents: list[str] = []
    networks: list[str] = []
    assistants: list[str] = []

    @field_validator("agents", "assistants")
    @classmethod
    def _filled(cls, values: list[str]) -> list[str]:
        if not all(value.strip() for value in values):
            raise ValueError("an empty word fits everybody; take it out")
        return values

    @field_validator("networks")
    @classmethod
    def _readable(cls, values: list[str]) -> list[str]:
        for value in values:
            try:
                ip_network(value)
            except ValueError:
                raise ValueError(
                    f"{value!r} is no network; write one such as 203.0.113.0/24"
                ) from None
        return values
