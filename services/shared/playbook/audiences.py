"""Audiences: lists of people that other tools get, each for a purpose that they have agreed to."""

from typing import Literal

from pydantic import Field

from services.shared.playbook.frozen import FrozenModel
from services.shared.playbook.programs import Reported

AudiencePurpose = Literal["newsletter", "retargeting", "suppression"]
# the permission, as channel:purpose, that each asks for where it names none
CONSENTS: dict[AudiencePurpose, str] = {
    "newsletter": "email:marketing",
    "retargeting": "ads:retargeting",
    "suppression": "email:marketing",
}


class Audience(FrozenModel):
    """Who is in it: who has given the consent and fits every filter; of a suppression list all who
    have refused it. With `hashed` addresses go out as the SHA-256 of the lower-cased address.
    """

    id: str
    name: str
    purpose: AudiencePurpose
    consent: str = Field(
        "",
        pattern=r"^([a-z0-9_-]{1,60}:[a-z0-9_-]{1,60})?$",
        description="channel:purpose; by default email:marketing, of retargeting ads:retargeting",
    )
    hashed: bool = False
    stages: list[str] = []
    personas: list[str] = []
    programs: list[str] = Field([], description="people who are in one of these programs")
    products: list[str] = []
    countries: list[str] = []
    sales: list[Reported] = Field([], description="what sales reported last")

    @property
    def asks(self) -> tuple[str, str]:
        """Channel and purpose of the consent."""
        channel, _, purpose = (self.consent or CONSENTS[self.purpose]).partition(":")
        return channel, purpose

    @property
    def has_filter(self) -> bool:
        """Whether it is not for everybody."""
        return any(
            (self.stages, self.personas, self.programs, self.products, self.countries, self.sales)
        )
