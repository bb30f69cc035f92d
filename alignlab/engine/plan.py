"""From a recipe to what will run: every name resolved, every setting checked, before anything is trained."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.config import LoadedRecipe, phase_data, report_data
from alignlab.config.recipe import DataSettings, OptimizerSettings, PhaseSettings, RewardSettings
from alignlab.config.settings import Settings
from alignlab.data import Mixed
from alignlab.engine.contract import check_class, check_settings
from alignlab.engine.files import content
from alignlab.engine.judging import parts, phases_in, plan_judges
from alignlab.engine.optim import OptimizerFactory
from alignlab.engine.roles import exported_role
from alignlab.errors import PluginError, RecipeError
from alignlab.generate import Generator
from alignlab.method import Method, MethodSettings
from alignlab.models import find
from alignlab.plugins import Plugins
from alignlab.rewards import FunctionReward, RewardRule, import_function
from alignlab.rewards.judges import JudgeSettings


@dataclass(frozen=True)
class PlannedReward:
    """One reward of a phase, not loaded yet."""

    name: str
    settings: RewardSettings
    rule: RewardRule | FunctionReward

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases whose models it takes."""
        found = getattr(self.rule, "from_phase", None) or ()
        return (found,) if isinstance(found, str) else tuple(found)

    @property
    def judges(self) -> tuple[JudgeSettings, ...]:
        """The judges that it asks."""
        return tuple(one for _, one in parts(self.rule, JudgeSettings)) if isinstance(self.rule, Settings) else ()

    @property
    def judged_by(self) -> tuple[str, ...]:
        """The phases whose models its judges are."""
        return tuple(phases_in([judge.own for judge in self.judges]))


@dataclass(frozen=True)
class PlannedPhase:
    """One phase with everything that its recipe names."""

    settings: PhaseSettings
    method: Method
    optimizer: OptimizerSettings
    factory: OptimizerFactory
    generator: Generator
    sources: tuple[Mixed, ...]
    rewards: tuple[PlannedReward, ...]

    @property
    def head(self) -> str:
        """Return the head of the model that the phase exports."""
        return self.method.roles[exported_role(self.method.roles)].head

    def inputs(self, used: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """Return the settings that the phase's result depends on, and the plugins that have a part in it.

        `used` are all plugins of the run; one that only hooks in has a part in every phase.
        """
        named = {
            ("method", self.optimizer.method),
            ("optimizer", self.optimizer.algorithm),
            ("generator", self.optimizer.generator),
            *(("data", one.source.name) for mixed in self.sources for one in (mixed, *mixed.nested)),
            *(("reward", reward.use) for reward in self.settings.reward),
            *(("judge", one.use) for reward in self.rewards for one in reward.judges),
            *(("judge", one.use) for mixed in self.sources for _, one in parts(mixed.settings, JudgeSettings)),
        }
        quiet = {"save_every", "keep_last", "log_samples", "microbatch_tokens"}
        if self.optimizer.export == "last":  # otherwise the evaluations decide which model comes out
            quiet |= {"eval_every", "eval_limit", "keep_best"}
        assert isinstance(self.method, Settings)
        return {
            "method": self.method.model_dump(mode="json"),
            "optimizer": self.optimizer.model_dump(mode="json", exclude=quiet),
            "rewards": [r.model_dump(mode="json", exclude={"timeout"}) for r in self.settings.reward],
            "code": [_code(reward.rule) for reward in self.rewards],
            "plugins": [p for p in used if (p["kind"], p["name"]) in named or p["kind"] == "hooks"],
        }


def plan(loaded: LoadedRecipe, plugins: Plugins) -> list[PlannedPhase]:
    """Resolve and check every phase of a recipe."""
    for i, name in enumerate(loaded.recipe.plugins):
        plugins.use(name, loaded.positions.where(("plugins", i)))
    phases = [_plan_phase(loaded, plugins, index) for index in range(len(loaded.recipe.phases))]
    heads = {phase.settings.name: phase.head for phase in phases}
    for index, phase in enumerate(phases):
        at = ("phases", index)
        if phase.head == "lm" and heads.get(phase.settings.from_ or "") == "scalar":
            raise RecipeError(
                f"{phase.settings.name!r} trains a language model, but {phase.settings.from_!r} makes a reward model",
                where=loaded.positions.where((*at, "from")),
                do="set `from` to a phase that makes a language model",
            )
        _check_rewards(loaded, phase.rewards, heads, (*at, "reward"))
        _check_judges(loaded, plugins, phase, heads, at)
    if loaded.recipe.model.new is not None and any(hasattr(mixed.source, "make") for mixed in phases[0].sources):
        raise RecipeError(
            "a new model's tokenizer is made from the first phase's rows, and those are made with a model",
            where=loaded.positions.where(("phases", 0, "data")),
            do="begin with a phase on rows that exist, or set model.path",
        )
    _check_report(loaded, plugins, heads)
    return phases


def _plan_phase(loaded: LoadedRecipe, plugins: Plugins, index: int) -> PlannedPhase:
    phase = loaded.recipe.phases[index]
    at = ("phases", index)
    values = dict(phase.optimizer)
    name = values.get("method")
    if not isinstance(name, str):
        raise RecipeError(
            "a phase's optimizer wants a `method`", where=loaded.positions.where((*at, "optimizer", "algorithm"))
        )
    cls: type[MethodSettings] = plugins.get("method", name, loaded.positions.where((*at, "optimizer", "method")))
    who = str(plugins.owner("method", name))
    check_class(cls, who)
    method, optimizer = _split_optimizer(loaded, cls, values, (*at, "optimizer"))
    check_settings(method, who)
    sources = [plan_source(loaded, plugins, data, where) for data, where in phase_data(loaded.recipe, index)]
    rewards = plan_rewards(loaded, plugins, phase.reward, (*at, "reward"))
    if optimizer.keep_best is not None and all(mixed.data.eval == 0 for mixed in sources):
        raise RecipeError(
            "`keep_best` goes by evaluations, and nothing is held out to evaluate on",
            where=loaded.positions.where((*at, "optimizer", "keep_best")),
            do="set `eval` in the phase's `data`, to a share such as 0.1 or a number of rows",
        )
    if (method.rows == "prompt") != bool(rewards) and (not rewards or cls.reward is MethodSettings.reward):
        raise RecipeError(
            f"method {name!r} {'takes no' if rewards else 'wants a'} reward",
            where=loaded.positions.where((*at, "reward")),
            do="remove `reward`"
            if rewards
            else "give the phase a `reward`, a list such as [{use: reward_model, from: rm}]",
        )
    return PlannedPhase(
        settings=phase,
        method=method,
        optimizer=optimizer,
        factory=plugins.get("optimizer", optimizer.algorithm, loaded.positions.where((*at, "optimizer", "algorithm"))),
        generator=plugins.get(
            "generator", optimizer.generator, loaded.positions.where((*at, "optimizer", "generator"))
        ),
        sources=tuple(sources),
        rewards=rewards,
    )


def _check_rewards(
    loaded: LoadedRecipe, rewards: Sequence[PlannedReward], heads: Mapping[str, str], at: tuple[str | int, ...]
) -> None:
    """Check that rewards which are a phase's model are those of a reward model."""
    for index, reward in enumerate(rewards):
        for origin in reward.phases:
            if heads[origin] == "scalar":
                continue
            raise RecipeError(
                f"phase {origin!r} makes a language model, not a reward model",
                where=loaded.positions.where((*at, index, "from")),
                do=f"phases that make one: {', '.join(n for n, head in heads.items() if head == 'scalar') or 'none'}",
            )


def _check_judges(
    loaded: LoadedRecipe, plugins: Plugins, phase: PlannedPhase, heads: Mapping[str, str], at: tuple[str | int, ...]
) -> None:
    """Check that judges which are a phase's model are of the kind that they take."""
    judges = [one for reward in phase.rewards for one in reward.judges]
    judges += [one for mixed in phase.sources for _, one in parts(mixed.settings, JudgeSettings)]
    for one in judges:
        origin = one.own.get("from")
        wanted = None if ":" in one.use else getattr(plugins.get("judge", one.use), "head", None)
        if origin is not None and wanted is not None and heads[origin] != wanted:
            makes = "a reward model" if heads[origin] == "scalar" else "a language model"
            raise RecipeError(
                f"judge {one.use!r} cannot be phase {origin!r}, which makes {makes}",
                where=loaded.positions.where(at),
                do=f"take `use: {'reward_model' if heads[origin] == 'scalar' else 'local'}`, or another phase",
            )


def report_sources(loaded: LoadedRecipe, plugins: Plugins) -> tuple[Mixed, ...]:
    """Resolve the report's data."""
    return tuple(plan_source(loaded, plugins, data, at) for data, at in report_data(loaded.recipe))


def _check_report(loaded: LoadedRecipe, plugins: Plugins, heads: Mapping[str, str]) -> None:
    """Check everything that the report will need, before anything is trained for it."""
    report = loaded.recipe.report
    if report is None:
        return
    for at, name in [(("baseline",), report.baseline), *((("phases", i), n) for i, n in enumerate(report.phases))]:
        if heads[name] != "lm":
            where = loaded.positions.where(("report", *at))
            raise RecipeError(f"phase {name!r} makes a reward model: it has no answers to compare", where=where)
    plugins.get("generator", report.generator, loaded.positions.where(("report", "generator")))
    _check_rewards(
        loaded, plan_rewards(loaded, plugins, report.reward, ("report", "reward")), heads, ("report", "reward")
    )
    if all(mixed.data.eval == 0 for mixed in report_sources(loaded, plugins)):
        raise RecipeError(
            "the report compares answers to held-out prompts, and nothing is held out",
            where=loaded.positions.where(("report", "data")),
            do="set `eval` in the recipe's `data`, to a share such as 0.1 or a number of rows",
        )


def _code(rule: RewardRule | FunctionReward) -> str:
    """Return a hash of what a reward is made of beside its settings: a function's file, a model's directory."""
    if isinstance(rule, FunctionReward):
        function = inspect.unwrap(rule.function)
        try:
            file = inspect.getsourcefile(function if inspect.isroutine(function) else type(function))
        except TypeError:  # it is built into Python
            file = None
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    paths = getattr(rule, "path", None) or ()
    paths = (paths,) if isinstance(paths, str) else paths
    return fingerprint([content(Path(find(path))) for path in paths]) if paths else ""


def _split_optimizer(
    loaded: LoadedRecipe, cls: type[MethodSettings], values: Mapping[str, Any], at: tuple[str | int, ...]
) -> tuple[MethodSettings, OptimizerSettings]:
    """Split the `optimizer` mapping: the engine's keys, and the method's own; a key that neither has is an error."""
    if clash := sorted(cls.model_fields.keys() & OptimizerSettings.model_fields.keys()):
        raise PluginError(
            f"method {cls.name!r} has settings that are the engine's: {', '.join(clash)}",
            do="rename them in the method",
        )
    engine = {key: value for key, value in values.items() if key in OptimizerSettings.model_fields}
    own = {key: value for key, value in values.items() if key not in engine}
    method = loaded.validate(cls, own, at, also=OptimizerSettings.model_fields)
    return method, loaded.validate(OptimizerSettings, engine, at)


def plan_source(loaded: LoadedRecipe, plugins: Plugins, values: Mapping[str, Any], at: tuple[str | int, ...]) -> Mixed:
    """Resolve one data source and check its settings."""
    settings = loaded.validate(DataSettings, values, at)
    source = plugins.get("data", settings.source, loaded.positions.where((*at, "source")))
    given, shared = settings.model_extra or {}, loaded.recipe.data
    if hasattr(source, "make"):  # the recipe's keys that it does not know are for the prompts that it takes
        known = {field.alias or name for name, field in source.settings.model_fields.items()}
        given = {key: value for key, value in given.items() if key in known or shared.get(key) != value}
    own = loaded.validate(source.settings, given, at, also=DataSettings.model_fields)
    nested = tuple(
        plan_source(loaded, plugins, {**shared, **one.model_dump(exclude_unset=True)}, here)
        for here, one in parts(own, DataSettings, at)
    )
    return Mixed(source, own, settings, nested, made_of=plan_judges(loaded, plugins, own, at))


def plan_rewards(
    loaded: LoadedRecipe, plugins: Plugins, rewards: Sequence[RewardSettings], at: tuple[str | int, ...]
) -> tuple[PlannedReward, ...]:
    """Resolve rewards: functions by `package.module:function`, rules by their registered names."""
    planned: list[PlannedReward] = []
    for index, reward in enumerate(rewards):
        rule: RewardRule | FunctionReward
        own, here = reward.model_extra or {}, (*at, index)
        if ":" in reward.use:
            loaded.validate(Settings, own, here, also=RewardSettings.model_fields)  # a function has none
            rule = import_function(reward.use)
        else:
            cls: type[RewardRule] = plugins.get("reward", reward.use, loaded.positions.where((*here, "use")))
            rule = loaded.validate(cls, own, here, also=RewardSettings.model_fields)
            plan_judges(loaded, plugins, rule, here)
        name = reward.name or reward.use.rpartition(":")[2]
        if name in {p.name for p in planned}:
            where = loaded.positions.where((*at, index))
            raise RecipeError(f"two rewards are logged as {name!r}", where=where, do="give one of them another `name`")
        planned.append(PlannedReward(name, reward, rule))
    return tuple(planned)


def fingerprint(*parts: Any) -> str:
    """Return a short hash of JSON-like values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
