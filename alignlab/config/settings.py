"""The base of everything that a user sets: a frozen record, checked strictly."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen record of settings: an unknown key or a wrong type is an error, and a default is checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)
