"""Load recipes: YAML and `--set` in, a checked `Recipe` out; an error names the line, the key and the nearest one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alignlab.config.explain import together, validate
from alignlab.config.override import override
from alignlab.config.recipe import Recipe, RewardSettings
from alignlab.config.settings import Settings
from alignlab.config.yaml_lines import KeyPath, Positions, read_yaml, write_yaml
from alignlab.errors import RecipeError, did_you_mean

S = TypeVar("S", bound=Settings)

# What a run directory holds beside its phases.
RESERVED = ("base-model", "cache", "tensorboard", "wandb", "data", "manifest.json", "recipe.yaml", "report.json")


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, and where every key of it stands."""

    recipe: Recipe
    positions: Positions

    def validate(self, cls: type[S], values: Mapping[str, Any], at: KeyPath, also: Iterable[str] = ()) -> S:
        """Check settings that only a plugin knows. `also` names keys that may stand beside them, for suggestions."""
        return validate(cls, values, at, self.positions, also)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load a recipe, change it by `KEY=VALUE` overrides, and check it. Raises RecipeError with all that is wrong."""
    values, positions = read_yaml(Path(path))
    for text in overrides:
        override(values, text, positions)
    recipe = validate(Recipe, values, (), positions)
    if wrong := _check_names(recipe, positions):
        raise together(wrong)
    for index in range(len(recipe.phases)):
        positions.inherit(("phases", index, "data"), ("data",))
    positions.inherit(("report", "data"), ("data",))
    return LoadedRecipe(recipe, positions)


def dump_recipe(recipe: Recipe) -> str:
    """Return a recipe with all its defaults, as YAML that loads to an equal one."""
    return write_yaml(recipe.model_dump(mode="json", by_alias=True))


def phase_data(recipe: Recipe, index: int) -> list[tuple[dict[str, Any], KeyPath]]:
    """Return a phase's data sources, each laid over the recipe's `data`, and where it stands."""
    own = recipe.phases[index].data
    at: KeyPath = ("phases", index, "data")
    if isinstance(own, list):
        return [({**recipe.data, **one}, (*at, i)) for i, one in enumerate(own)]
    return [({**recipe.data, **own}, at)]


def report_data(recipe: Recipe) -> list[tuple[dict[str, Any], KeyPath]]:
    """Return the report's data source, laid over the recipe's `data`."""
    assert recipe.report is not None
    return [({**recipe.data, **recipe.report.data}, ("report", "data"))]


def _check_names(recipe: Recipe, positions: Positions) -> list[RecipeError]:
    """Return what is wrong with the phases' names, and with references to phases: they must run before."""
    wrong: list[RecipeError] = []
    before: list[str] = []

    def refer(name: Any, *at: str | int) -> None:
        if name is not None and name not in before:
            what = f"there is no phase {name!r} before this"
            wrong.append(RecipeError(what, where=positions.where(at), do=did_you_mean(str(name), set(before))))

    def refer_all(rewards: Sequence[RewardSettings], *at: str | int) -> None:
        for i, reward in enumerate(rewards):
            origin = (reward.model_extra or {}).get("from")
            if isinstance(origin, list):
                for j, member in enumerate(origin):
                    refer(member, *at, i, "from", j)
            else:
                refer(origin, *at, i, "from")
            for key, value in (reward.model_extra or {}).items():
                if isinstance(value, dict | list) and key != "from":
                    refer_below(value, *at, i, key)

    def refer_below(values: Any, *at: str | int) -> None:
        """Check whatever stands under a key `from` in a data source's settings."""
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            if key == "from" and isinstance(value, str):
                refer(value, *at, key)
            elif isinstance(value, dict | list):
                refer_below(value, *at, key)

    for index, phase in enumerate(recipe.phases):
        where = positions.where(("phases", index, "name"))
        if phase.name in before:
            wrong.append(RecipeError(f"two phases are called {phase.name!r}", where=where, do="rename one of them"))
        if phase.name in RESERVED:
            what = f"a phase cannot be called {phase.name!r}: the run directory holds something else of that name"
            wrong.append(RecipeError(what, where=where, do="rename it"))
        refer(phase.from_, "phases", index, "from")
        refer_all(phase.reward, "phases", index, "reward")
        refer_below(phase.data, "phases", index, "data")
        before.append(phase.name)
    if recipe.report is not None:
        refer(recipe.report.baseline, "report", "baseline")
        for i, name in enumerate(recipe.report.phases):
            refer(name, "report", "phases", i)
        refer_all(recipe.report.reward, "report", "reward")
    return wrong
