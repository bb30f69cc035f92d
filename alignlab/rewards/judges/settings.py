"""What a recipe says of a panel of judges."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt, field_validator, model_validator
from typing_extensions import Self

from alignlab.config.settings import Settings
from alignlab.errors import AlignlabError
from alignlab.rewards.judges.base import JudgeSettings
from alignlab.rewards.judges.constitution import GENERAL, Constitution, Principle, load_constitution

OneOrMore = BeforeValidator(lambda value: (value,) if isinstance(value, dict | JudgeSettings) else value)


class ConstitutionSettings(Settings):
    """Principles, for whatever works with them."""

    constitution: str | None = None
    """A YAML or JSON file of principles, or `package:file` for one that a package holds."""
    tags: tuple[str, ...] = ()
    """Use only the principles that have one of these."""

    @field_validator("constitution")
    @classmethod
    def _readable(cls, name: str | None) -> str | None:
        try:
            if name is not None:
                load_constitution(name)
        except AlignlabError as error:
            raise ValueError(f"names a constitution that is not one: {error}") from None
        return name

    def load_constitution(self) -> Constitution | None:
        """Read it. Raises RecipeError."""
        if self.constitution is None:
            return None
        return load_constitution(self.constitution).tagged(self.tags, self.constitution)

    def content(self) -> list[Any]:
        """Return what rows depend on beside the settings: what the constitution says."""
        found = self.load_constitution()
        return [] if found is None else [vars(one) for one in (*found.principles, *found.examples)]


class PanelSettings(ConstitutionSettings):
    """Judges, and how they are asked."""

    judge: Annotated[tuple[JudgeSettings, ...], OneOrMore, Field(min_length=1)]
    """A judge, or a list of judges whose verdicts are averaged by their weights."""
    principles_per_pair: PositiveInt | None = None
    """Principles drawn for each pair, by weight; all of them, averaged by weight, if it is not given."""
    both_orders: bool = True
    """Ask each pair in both orders and average, so that a judge's liking for one place cancels out."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name or one.use for one in self.judge]
        if len(set(names)) < len(names):
            raise ValueError(f"has two judges called {names[0]!r}: give one of them another `name`")
        if self.constitution is None and (self.tags or self.principles_per_pair):
            raise ValueError("sets `tags` or `principles_per_pair`, which want a `constitution`")
        return self

    def principles(self) -> tuple[Principle, ...]:
        """Return what is asked about. Raises RecipeError for a constitution without questions."""
        found = self.load_constitution()
        return (GENERAL,) if found is None else found.principles
