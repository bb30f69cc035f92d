"""Run a recipe: its phases in order, each skipped, resumed or started."""

import platform
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from transformers import PreTrainedTokenizerBase

import alignlab
from alignlab import builtin, ops
from alignlab.atomic import clean, write_text
from alignlab.config import LoadedRecipe, dump_recipe
from alignlab.data import DEFAULT_TEMPLATE, Mixed, Split, corpus, load_split
from alignlab.engine.base import prepare_base
from alignlab.engine.calibration import calibration
from alignlab.engine.checkpoint import checkpoints, read_progress
from alignlab.engine.display import Display, numbers
from alignlab.engine.files import locked, move_aside, read_json, write_json
from alignlab.engine.intervals import wilson
from alignlab.engine.judging import JudgeLoader, phases_in
from alignlab.engine.making import Making, is_made
from alignlab.engine.phase import Phase
from alignlab.engine.plan import PlannedPhase, PlannedReward, fingerprint, plan
from alignlab.engine.ranks import Ranks
from alignlab.engine.reference_cache import ReferenceCache
from alignlab.engine.roles import load_roles
from alignlab.engine.run import EngineRun
from alignlab.engine.trackers import Tracker
from alignlab.errors import RecipeError, did_you_mean
from alignlab.method import RowFormat
from alignlab.models import context_length, load_tokenizer, require_peft, resolve_device
from alignlab.plugins import Plugins
from alignlab.rewards import RewardContext, Rewards, Weighted, same_vocabulary
from alignlab.rewards.judges import JudgeContext


@dataclass(frozen=True)
class Finished:
    """A phase that is done."""

    directory: Path
    fingerprint: str
    head: str  # of the model that it exported

    @property
    def model(self) -> Path:
        """Return the exported model."""
        return self.directory / "model"


class Pipeline:
    """One run of a recipe."""

    def __init__(self, loaded: LoadedRecipe, display: Display | None = None, plugins: Plugins | None = None) -> None:
        """Resolve and check everything that the recipe names, by the installed plugins or those that are given."""
        self.recipe = loaded.recipe
        self.output = Path(loaded.recipe.output)
        self.cache = self.output / "cache"
        self.ranks = Ranks.start()
        self.display = (display or Display()) if self.ranks.main else Display(Console(quiet=True))
        self.plugins = plugins or Plugins(builtin)
        self.phases = plan(loaded, self.plugins)
        if loaded.recipe.model.lora is not None:
            require_peft()
        self.finished: dict[str, Finished] = {}
        self.made: dict[str, Path] = {}  # by phase, the directory of the rows that were made for it
        self.trackers: tuple[Tracker, ...] = tuple(
            self.plugins.get("tracker", name, loaded.positions.where(("trackers", i)))
            for i, name in enumerate(loaded.recipe.trackers)
        )

    def run(self, until: str | None = None) -> Path:
        """Run every phase that is not done, and none after the one called `until`; return the run directory."""
        names = [phase.settings.name for phase in self.phases]
        if until is not None and until not in names:
            raise RecipeError(f"there is no phase {until!r}", where="--until", do=did_you_mean(until, names))
        with ExitStack() as at_end:
            self.ranks.once(lambda: at_end.enter_context(locked(self.output)))
            manifest = self._manifest()
            self._say_start(manifest)
            if self.ranks.main:
                for directory in (self.output, self.cache):
                    clean(directory)
                write_text(self.output / "recipe.yaml", dump_recipe(self.recipe))
                write_json(self.output / "manifest.json", manifest)
                for tracker in self.trackers:
                    tracker.start(self.output, manifest)
                    at_end.callback(tracker.finish)
                self.plugins.event("on_run_start", manifest=manifest)
            for phase in self.phases[: len(names) if until is None else names.index(until) + 1]:
                manifest["data"][phase.settings.name] = self._run_phase(phase)
                if self.ranks.main:
                    write_json(self.output / "manifest.json", manifest)
            if self.ranks.main:
                self.plugins.event("on_run_end", output=self.output)
        return self.output

    def _run_phase(self, planned: PlannedPhase) -> str:
        """Skip, resume or start one phase; return the digest of its data."""
        name = planned.settings.name
        directory = self.output / name
        with self.ranks.main_first():  # it makes a new model and rows, and caches tokens, for the others to read
            base, base_print = self._base(planned)
            sources = tuple(self._made(planned, mixed, base, base_print) for mixed in planned.sources)
            split = self.split(sources, planned.method.rows, base, self.cache)
        wanted = fingerprint(
            base_print,
            planned.inputs(self.plugins.used()),
            split.digest,
            self._seed(planned),
            self.recipe.model.model_dump(include={"dtype", "lora"}),
            [self.finished[o].fingerprint for r in planned.rewards for o in (*r.phases, *r.judged_by)],
        )
        done = Finished(directory, wanted, planned.head)
        self.finished[name] = done
        if self.ranks.once(lambda: self._is_done(directory, wanted)):
            self.display.say(f"{name}: done already, its inputs did not change")
            return split.digest
        for line in str(split.summary).splitlines():
            self.display.say(f"{name}: {line}")
        directory.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        with self._reference_cache(planned, wanted) as cache:
            evaluated = self._phase(planned, done, base, split, cache).train()
        seconds = time.perf_counter() - began
        if self.ranks.main:
            about = {"fingerprint": wanted, "method": planned.method.name, "seconds": seconds}
            write_json(directory / "phase.json", about)
        cache.remove()
        self.ranks.wait()
        self.display.say(f"{name}: done in {seconds:.0f} s{_measured(evaluated)}")
        found = calibration(evaluated)
        for line in found.lines() if found is not None else ():
            self.display.say(f"{name}: {line}")
        return split.digest

    def _is_done(self, directory: Path, wanted: str) -> bool:
        """Return whether a phase is finished; what was made of other inputs is moved aside, never lost."""
        about = directory / "phase.json"
        saved = checkpoints(directory / "checkpoints")
        found = None
        if about.is_file():
            found = read_json(about).get("fingerprint", "")
        elif saved:
            found = read_progress(saved[-1]).fingerprint
        if found is not None and found != wanted:
            aside = move_aside(directory)
            self.display.say(f"{directory.name}: its inputs changed, so it runs again; the old one is kept as {aside}")
            return False
        return found is not None and about.is_file()

    def _reference_cache(self, planned: PlannedPhase, wanted: str) -> ReferenceCache:
        """Return the cache of a phase's frozen roles, by its fingerprint: its bits depend on no other run.

        Every rank has a file of its own; they hold the same.
        """
        frozen = [name for name, role in planned.method.roles.items() if not role.train and role.follow is None]
        return ReferenceCache(self.cache / f"reference-{wanted}-{self.ranks.rank}.sqlite", frozen)

    def prepared(self, name: str) -> Phase:
        """Return a phase, ready to run, whatever is done of it; the phases that it builds on have to be finished."""
        for planned in self.phases:
            done = Finished(self.output / planned.settings.name, "", planned.head)
            self.finished[planned.settings.name] = done
            if planned.settings.name == name:
                base, _ = self._base(planned)
                split = self.split(planned.sources, planned.method.rows, base, self.cache)
                return self._phase(planned, done, base, split, None)
        raise RecipeError(f"there is no phase {name!r}", do=did_you_mean(name, self.finished))

    def _phase(
        self, planned: PlannedPhase, done: Finished, base: str, split: Split, reference_cache: ReferenceCache | None
    ) -> Phase:
        """Load the models and rewards of a phase."""
        context = self.reward_context(planned.optimizer.microbatch_tokens)
        tokenizer = load_tokenizer(base, self.recipe.model.trust_remote_code)
        critic_from = self._critic_from(planned, context, tokenizer)
        models = load_roles(planned.method, base, self.recipe.model, critic_from, seed=self._seed(planned))
        if split.summary.default_template:
            tokenizer.chat_template = DEFAULT_TEMPLATE  # what it is trained on goes with the exported model
        run = EngineRun(
            models,
            tokenizer,
            seed=self._seed(planned),
            phase=planned.settings.name,
            rewards=load_rewards(planned.rewards, context),
            generator=planned.generator,
            microbatch_tokens=planned.optimizer.microbatch_tokens,
            precision=planned.optimizer.precision,
            ranks=self.ranks,
            reference_cache=reference_cache,
        )
        return Phase(
            name=planned.settings.name,
            directory=done.directory,
            fingerprint=done.fingerprint,
            method=planned.method,
            settings=planned.optimizer,
            split=split,
            run=run,
            factory=planned.factory,
            plugins=self.plugins,
            trackers=self.trackers,
            display=self.display,
        )

    def _made(self, planned: PlannedPhase, mixed: Mixed, base: str, base_print: str) -> Mixed:
        """Make the rows of a source that makes them, or find those that were made of the same."""
        if not is_made(mixed):
            return mixed
        settings = mixed.settings.model_dump(mode="json", by_alias=True)
        prints = {name: phase.fingerprint for name, phase in self.finished.items()}
        parents = [prints[origin] for origin in phases_in(settings)]
        code = [p for p in self.plugins.used() if (p["kind"], p["name"]) == ("data", mixed.source.name)]
        nested = [(one.settings.model_dump(mode="json"), one.data.model_dump(mode="json")) for one in mixed.nested]
        seed = self._seed(planned)
        made_of = fingerprint(mixed.source.name, settings, nested, mixed.made_of, parents, base_print, seed, code)
        name = planned.settings.name
        directory = self.output / "data" / f"{name}-{made_of}"
        self.made[name if name not in self.made else directory.name] = directory  # a mixture may have several
        context = self.reward_context(planned.optimizer.microbatch_tokens)
        making = Making(
            name=name,
            directory=directory,
            seed=seed,
            base=base,
            base_print=base_print,
            models=context.models,
            prints=prints,
            loader=self._judges(context, seed),
            generator=planned.generator,
            display=self.display,
            settings=mixed.settings,
            nested=mixed.nested,
        )
        return making.rows(mixed)

    def finished_judges(self) -> JudgeLoader:
        """Return what loads judges with the models of the phases that a run before has finished."""
        models = {p.settings.name: self.output / p.settings.name / "model" for p in self.phases}
        done = {name: model for name, model in models.items() if (model.parent / "phase.json").is_file()}
        return self._judges(replace(self.reward_context(self.report_tokens), models=done), self.recipe.seed)

    def _judges(self, context: RewardContext, seed: int) -> JudgeLoader:
        judges = JudgeContext(
            context.models, context.device, context.dtype, context.trust_remote_code, context.microbatch_tokens
        )
        return JudgeLoader(self.plugins, judges, self.cache / "replies.sqlite", seed)

    def _seed(self, planned: PlannedPhase) -> int:
        return self.recipe.seed if planned.settings.seed is None else planned.settings.seed

    def _critic_from(
        self, planned: PlannedPhase, context: RewardContext, tokenizer: PreTrainedTokenizerBase
    ) -> str | None:
        """Return the reward model that a critic starts from: the first that reads the policy's own tokens."""
        for rule in (reward.rule for reward in planned.rewards):
            for path in rule.directories(context.models) if hasattr(rule, "directories") else ():
                if same_vocabulary(load_tokenizer(path, context.trust_remote_code), tokenizer):
                    return str(path)
        return None

    @property
    def report_tokens(self) -> int:
        """Tokens in one forward pass of the report: what the phases can take."""
        return min(phase.optimizer.microbatch_tokens for phase in self.phases)

    def reward_context(self, microbatch_tokens: int) -> RewardContext:
        """Return what rewards are loaded with."""
        model = self.recipe.model
        context = RewardContext(
            {name: phase.model for name, phase in self.finished.items()},
            resolve_device(model.device),
            getattr(torch, model.dtype),
            model.trust_remote_code,
            microbatch_tokens,
        )
        return replace(context, panel=self._judges(context, self.recipe.seed).panel)

    def _base(self, planned: PlannedPhase) -> tuple[str, str]:
        """Return what a phase starts from, and a fingerprint of it."""
        origin = planned.settings.from_
        if origin is None:
            first = self.phases[0]
            return prepare_base(
                self.recipe.model, lambda: corpus(first.sources), self.output / "base-model", self.recipe.seed
            )
        start = self.finished[origin]
        return str(start.model), start.fingerprint

    def split(self, sources: tuple[Mixed, ...], rows: RowFormat, base: str, cache: Path | None) -> Split:
        """Load, check, tokenize and split the rows of some sources for the model in `base`."""
        tokenizer = load_tokenizer(base, self.recipe.model.trust_remote_code)
        return load_split(
            sources,
            rows,
            tokenizer,
            context_length=context_length(base, self.recipe.model.trust_remote_code),
            seed=self.recipe.seed,
            cache=cache,
        )

    def _manifest(self) -> dict[str, Any]:
        device = resolve_device(self.recipe.model.device)
        return {
            "alignlab": alignlab.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "ranks": self.ranks.size,
            "seed": self.recipe.seed,
            "plugins": self.plugins.used(),
            "ops": {op: ops.implementations(op) for op in ops.OPS},
            "data": {},
        }

    def _say_start(self, manifest: Mapping[str, Any]) -> None:
        names = ", ".join(phase.settings.name for phase in self.phases)
        ranks = f"{self.ranks.size} ranks of " if self.ranks.size > 1 else ""
        self.display.say(
            f"{self.output}: {names}; on {ranks}{manifest['device']}, {manifest['threads']} threads, "
            f"torch {manifest['torch']}"
        )
        if (self.output / "manifest.json").is_file():
            before = read_json(self.output / "manifest.json")
            for name in ("alignlab", "torch", "transformers", "device", "threads"):
                if before.get(name) != manifest[name]:
                    self.display.say(
                        f"{name} was {before.get(name)} when this run was started, and is {manifest[name]}: "
                        "what goes on from a checkpoint will not have the bits of an unbroken run"
                    )
        for phase in self.phases:
            for warning in phase.method.warnings():
                self.display.say(f"{phase.settings.name}: warning: {warning}")


def load_rewards(planned: tuple[PlannedReward, ...], context: RewardContext) -> Rewards | None:
    """Load the rewards of a phase; None if it has none."""
    parts: list[Weighted] = []
    for one in planned:
        reward = one.rule.load(replace(context, name=one.name)) if hasattr(one.rule, "load") else one.rule
        said = one.settings
        parts.append(Weighted(one.name, reward, said.weight, said.timeout, said.concurrency))
    return Rewards(tuple(parts)) if parts else None


def _measured(evaluated: Mapping[str, float]) -> str:
    """Return the held-out numbers as text, an accuracy with its interval."""
    if not evaluated:
        return ""
    num = int(evaluated["num"])
    text = f"; on {num} held-out rows: {numbers(evaluated, ('loss', 'score', 'kl', 'finished'))}"
    if "accuracy" in evaluated:
        low, high = wilson(evaluated["accuracy"], num)
        text += f"  accuracy {evaluated['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
    return text
