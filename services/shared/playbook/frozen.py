"""What all models of configuration files have in common."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A part of a configuration file: no unknown keys, no changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
