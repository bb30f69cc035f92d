"""Judges of a recipe: resolved and checked before anything runs, loaded when they are asked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.config import LoadedRecipe
from alignlab.config.settings import Settings
from alignlab.config.yaml_lines import KeyPath
from alignlab.errors import AlignlabError, RecipeError
from alignlab.plugins import Plugins
from alignlab.rewards.judges import (
    Asked,
    ConstitutionSettings,
    JudgeContext,
    JudgeRule,
    JudgeSettings,
    Panel,
    PanelSettings,
    import_judge,
)
from alignlab.rewards.judges.others import FunctionJudge, function_code
from alignlab.rewards.judges.store import Store
from alignlab.rewards.judges.writer import WriterSettings


def parts(settings: Settings, kind: type[Settings], at: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the settings of a kind that stand in others, one by one or in lists, each with its place."""
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        key = (*at, info.alias or name)
        for place, one in enumerate(value) if isinstance(value, tuple | list) else [(None, value)]:
            if isinstance(one, kind):
                yield key if place is None else (*key, place), one


def phases_in(values: Any) -> Iterator[str]:
    """Yield the phases that settings name: whatever stands under a key `from`."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key == "from":
                yield from [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
            else:
                yield from phases_in(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from phases_in(value)


def plan_judges(loaded: LoadedRecipe, plugins: Plugins, settings: Settings, at: KeyPath) -> list[Any]:
    """Resolve and check the judges in some settings; return what their verdicts depend on beside them."""
    found: list[Any] = []
    for place, judge in parts(settings, JudgeSettings, at):
        rule = resolve(loaded, plugins, judge, place)
        with _at(loaded.positions.where(place)):
            if hasattr(rule, "check"):
                rule.check()
        try:
            found.append(rule.wording().identity if hasattr(rule, "wording") else content_of(rule))
        except RecipeError as error:
            error.do = error.do or "see the recipe"
            where = f"{error.where}; named at {loaded.positions.where(place)}"
            raise RecipeError(error.what, where=where, do=error.do) from error
    for place, writer in parts(settings, WriterSettings, at):
        with _at(loaded.positions.where(place)):
            if writer.server is not None:
                writer.server.check()
    if isinstance(settings, ConstitutionSettings):
        found += settings.content()
    return found


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Say where a server is named, in an error that does not say where yet."""
    try:
        yield
    except AlignlabError as error:
        error.where = error.where or where
        raise


def resolve(
    loaded: LoadedRecipe | None, plugins: Plugins, judge: JudgeSettings, at: KeyPath = ()
) -> JudgeRule | FunctionJudge:
    """Return a judge's rule with its settings, or the function that it names."""
    where = loaded.positions.where((*at, "use")) if loaded is not None else None
    if ":" in judge.use:
        if judge.own and loaded is not None:
            key = next(iter(judge.own))
            raise RecipeError(f"a function has no setting {key!r}", where=loaded.positions.where((*at, key)))
        return import_judge(judge.use)
    cls: type[JudgeRule] = plugins.get("judge", judge.use, where)
    return loaded.validate(cls, judge.own, at) if loaded is not None else cls.model_validate(judge.own)


def content_of(rule: JudgeRule | FunctionJudge) -> Any:
    """Return what a judge is made of beside its settings."""
    return function_code(rule) if isinstance(rule, FunctionJudge) else None


@dataclass(frozen=True)
class JudgeLoader:
    """Loads panels for one phase."""

    plugins: Plugins
    context: JudgeContext
    store: Path
    seed: int = 0

    def panel(self, settings: PanelSettings, kept: Path | None = None) -> Panel:
        """Load the judges of a panel; its verdicts are kept in the store, and written to `kept`."""
        store = Store(self.store)
        judges = []
        for one in settings.judge:
            name = one.name or one.use
            rule = resolve(None, self.plugins, one)
            try:
                judge = rule.load(self.context) if isinstance(rule, JudgeRule) or hasattr(rule, "load") else rule
            except AlignlabError as error:
                raise type(error)(f"judge {name!r}: {error.what}", where=error.where, do=error.do) from error
            judges.append(Asked(name, judge, store, one.weight))
        return Panel(
            judges,
            settings.principles(),
            settings.principles_per_pair,
            settings.both_orders,
            self.seed,
            kept,
        )
