"""The loop of one phase: data stage, reward stage, optimizer stage; evaluate, save, export."""

import copy
import functools
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignlab.atomic import clean, sync
from alignlab.batch import Batch, Record
from alignlab.config.recipe import OptimizerSettings
from alignlab.data import Split, epoch_order
from alignlab.engine import update
from alignlab.engine.bad_batch import Met, save_bad_batch
from alignlab.engine.best import Best, better
from alignlab.engine.calibration import calibration
from alignlab.engine.checkpoint import (
    Progress,
    changed_weights,
    check_state,
    checkpoint_path,
    checkpoints,
    load_checkpoint,
    prune,
    read_progress,
    save_checkpoint,
)
from alignlab.engine.contract import Contract
from alignlab.engine.display import Display
from alignlab.engine.files import append_jsonl, keep_until, write_json
from alignlab.engine.microbatch import minibatches
from alignlab.engine.optim import OptimizerFactory, lr_at, parameter_groups
from alignlab.engine.roles import exported_role, follow, following
from alignlab.engine.run import EngineRun
from alignlab.engine.samples import write_samples
from alignlab.engine.trackers import Tracker
from alignlab.errors import PluginError, TrainingError
from alignlab.generate import eos_tokens
from alignlab.method import Loss, Method
from alignlab.models import has_adapter, merge_adapter, save_model
from alignlab.plugins import Plugins


@dataclass(frozen=True)
class Phase:
    """One phase, ready to run."""

    name: str
    directory: Path
    fingerprint: str
    method: Method
    settings: OptimizerSettings
    split: Split
    run: EngineRun
    factory: OptimizerFactory
    plugins: Plugins
    trackers: tuple[Tracker, ...]
    display: Display

    @property
    def num_steps(self) -> int:
        """Batches drawn in all."""
        if self.settings.steps is not None:
            return self.settings.steps
        assert self.settings.epochs is not None
        return max(round(self.settings.epochs * len(self.split.train) / self.settings.batch_size), 1)

    @functools.cached_property
    def contract(self) -> Contract:
        """The method's stages, watched."""
        return Contract(self.method, self.run.models, str(self.plugins.owner("method", self.method.name)))

    def train(self) -> dict[str, float]:
        """Run the phase from its last checkpoint on; return the last evaluation."""
        try:
            return self._train()
        except (torch.OutOfMemoryError, PluginError) as error:
            if not isinstance(error.__cause__ or error, torch.OutOfMemoryError):
                raise
            raise TrainingError(
                f"out of memory: {str(error.__cause__ or error).splitlines()[0]}",
                where=f"phase {self.name}",
                do=f"lower `microbatch_tokens` (now {self.settings.microbatch_tokens}; the result stays the same), or "
                "set model.gradient_checkpointing; then run again to go on from the last checkpoint",
            ) from error

    def _train(self) -> dict[str, float]:
        groups = parameter_groups(self.run.models.values(), self.settings.weight_decay)
        optimizer = self.factory.build(groups, self.settings)
        done = self._resume(optimizer)
        save_every = self.settings.save_every or max(self.num_steps // 10, 1)
        with self.display.bar(self.name, done.step, self.num_steps) as bar:
            for step in range(done.step + 1, self.num_steps + 1):  # steps are counted from 1 in all that is written
                last = step == self.num_steps
                metrics = self._step(step, optimizer)
                check_state(self.run.state)
                evaluated: dict[str, float] = {}
                best = done.best
                if last or (self.settings.eval_every and step % self.settings.eval_every == 0):
                    evaluated = self._evaluate(step)
                    if self.run.ranks.main:
                        write_samples(self, step)
                    metrics |= {f"eval/{name}": value for name, value in evaluated.items()}
                    if self.settings.keep_best is not None:
                        best = better(self.settings.keep_best, step, evaluated, best)
                bar(step, metrics)
                if self.run.ranks.main:
                    self._write(step, metrics)
                if not last:  # after the evaluation, which would see no distance to a reference that has just moved
                    follow(self.run.models, self.method.roles, step)
                done = Progress(step, self.fingerprint, self.run.state, evaluated, best)
                saves = last or step % save_every == 0 or (best is not None and best.step == step)
                if saves and self.run.ranks.main:
                    self._save(done, optimizer)
        if self.settings.export == "best":
            self.run.ranks.wait()  # for rank 0's last checkpoint
            return self._export_best(done.best)
        self._export(done)
        return done.evaluated

    def _resume(self, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the newest checkpoint, if there is one; return what is done."""
        done = Progress(0, self.fingerprint)
        found = checkpoints(self._checkpoints)
        if found:
            done = read_progress(found[-1])
            load_checkpoint(found[-1], self.run.models, optimizer, self.changing)
            self.run.state = done.state
            self.display.say(f"{self.name}: goes on after step {done.step} of {self.num_steps}")
        if self.run.ranks.main:
            self._clean(done)
            if found:  # again, because a kill may have come before it: plugins hear of it at least once
                self.plugins.event("on_checkpoint", phase=self.name, step=done.step, path=found[-1])
        return done

    def _clean(self, done: Progress) -> None:
        """Remove what a kill left behind, and the lines of steps that are done again."""
        clean(self.directory)
        clean(self._checkpoints)
        prune(self._checkpoints, self.settings.keep_last, done.best)
        for file in ("metrics.jsonl", "samples.jsonl"):
            keep_until(self.directory / file, done.step)

    def _save(self, done: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, once the lines of its steps are on the disk; then remove those that are not kept."""
        for file in ("metrics.jsonl", "samples.jsonl"):
            if (self.directory / file).is_file():
                sync(self.directory / file)
        path = save_checkpoint(self._checkpoints, done, self.run.models, optimizer, self.changing)
        prune(self._checkpoints, self.settings.keep_last, done.best)
        self.plugins.event("on_checkpoint", phase=self.name, step=done.step, path=path)

    @property
    def _checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def changing(self) -> list[str]:
        """Return the roles that are not trained and move all the same."""
        return following(self.method.roles)

    def _step(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Draw a batch, score it, and go over it in passes of minibatches, an optimizer step each."""
        began = time.perf_counter()
        self.run.begin(step)
        lr = lr_at(self.settings, step - 1, self.num_steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = self._collect(self._records(step))
        if not len(batch):
            raise TrainingError(
                "the data stage gave a batch without rows", where=f"{self.name}, step {step}", do="keep some of them"
            )
        seen: list[dict[str, float]] = []
        for part in itertools.chain.from_iterable(
            minibatches(batch, self.method.minibatches, self._order_rng()) for _ in range(self.method.passes)
        ):
            sums = self.accumulate(part, backward=True)
            norm = update.step(
                self.run.models,
                optimizer,
                sums,
                max_grad_norm=self.settings.max_grad_norm,
                save_bad_batch=functools.partial(self._save_bad_batch, part, step, len(seen) + 1),
                who=self.contract.who,
                ranks=self.run.ranks,
            )
            seen.append({**sums.means(), "grad_norm": norm})
            if self.method.end_passes(seen[-1]):
                break
        means = {name: sum(found[name] for found in seen) / len(seen) for name in seen[0]}
        tokens, seconds = int(batch.valid.sum()), time.perf_counter() - began
        return {**means, **self.run.logged(), "updates": len(seen), "lr": lr, "tokens": tokens, "seconds": seconds}

    def _save_bad_batch(self, batch: Batch, step: int, number: int, loss: float, norm: float) -> Path:
        """Write a minibatch whose loss or gradient is not finite, with the weights it was met with."""
        directory = self.directory / f"bad-batch-step-{step}"
        met = Met(self.name, step, number, loss, norm, self.run.state)
        weights = changed_weights(self.run.models, self.changing)
        if self.run.ranks.main:
            save_bad_batch(directory, batch, met, weights, self.directory.parent / "recipe.yaml")
        return directory

    def _order_rng(self) -> torch.Generator | None:
        """Shuffle only where it matters: one minibatch holds everything anyway."""
        return self.run.rng if self.method.minibatches > 1 else None

    def _records(self, step: int) -> list[Record]:
        """Return the records of a step: a pure function of the seed and the step, so that resuming needs no state."""
        size, num = self.settings.batch_size, len(self.split.train)
        places = range((step - 1) * size, step * size)
        orders = {epoch: epoch_order(num, self.run.seed, epoch) for epoch in {place // num for place in places}}
        return [self.split.train[orders[place // num][place % num]] for place in places]

    def _collect(self, records: list[Record]) -> Batch:
        """Run the data stage and the reward stage."""
        with torch.no_grad(), self.run.shared():
            batch: Batch = self.plugins.stage(
                "data_stage", self.method.data, run=self.run, method=self.method, given=records
            )
            batch = batch.to(self.run.device)
            scored: Batch = self.plugins.stage(
                "reward_stage", self.contract.reward, run=self.run, method=self.method, given=batch
            )
            return scored

    def accumulate(self, batch: Batch, *, backward: bool) -> update.Sums:
        """Run the optimizer stage on every microbatch."""
        tokens = self.settings.microbatch_tokens
        return update.accumulate(self.method, self.optimize, batch, tokens, backward=backward, ranks=self.run.ranks)

    def optimize(self, batch: Batch) -> Loss:
        """Run the optimizer stage on a microbatch."""
        loss: Loss = self.plugins.stage(
            "optimizer_stage", self.contract.optimize, run=self.run, method=self.method, given=batch
        )
        return loss

    def _evaluate(self, step: int) -> dict[str, float]:
        """Run the stages over the held-out records without training; the same draws at every evaluation."""
        # In a fixed random order, so that a limit takes of every source of a mixture.
        order = epoch_order(len(self.split.eval), 0, 0)[: self.settings.eval_limit]
        records = [self.split.eval[i] for i in order]
        state = copy.deepcopy(self.run.state)
        self.run.begin(0, train=False)
        sums: dict[str, float] = {}
        logged: dict[str, float] = {}
        count = 0
        with torch.no_grad():
            for first in range(0, len(records), self.settings.batch_size):
                part = records[first : first + self.settings.batch_size]
                batch = self._collect(part)
                found = self.accumulate(batch, backward=False)
                count += found.count
                for name, value in found.values.items():
                    sums[name] = sums.get(name, 0.0) + value
                for name, value in self.run.logged().items():
                    logged[name] = logged.get(name, 0.0) + value * len(part) / len(records)
        self.run.state = state
        metrics = {**update.Sums(sums, count).means(), **logged, "num": float(len(records))} if records else {}
        if (calibrated := calibration(metrics)) is not None:
            metrics["calibration_error"] = calibrated.error
        if self.run.ranks.main:
            self.plugins.event("on_evaluate", phase=self.name, step=step, metrics=metrics)
        return metrics

    def _write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one step's numbers everywhere."""
        append_jsonl(self.directory / "metrics.jsonl", {"step": step, **metrics})
        for tracker in self.trackers:
            tracker.log(self.name, step, metrics)
        self.plugins.event("on_step_end", phase=self.name, step=step, metrics=metrics)

    def _export_best(self, best: Best | None) -> dict[str, float]:
        """Write the model of the best evaluation; return that."""
        if best is None:
            raise TrainingError(
                "there is no best evaluation: what `keep_best` goes by was NaN in all of them",
                where=f"phase {self.name}; its last checkpoint is in {self._checkpoints}",
                do="choose another metric, or set `export: last`",
            )
        load_checkpoint(checkpoint_path(self._checkpoints, best.step), self.run.models, None, self.changing)
        self.display.say(f"{self.name}: the best evaluation was that of step {best.step}, whose model it ends with")
        self._export(best)
        return best.evaluated

    def _export(self, done: Progress | Best) -> None:
        """Write the trained model as a plain Hugging Face directory, with what alignlab knows of it beside.

        With LoRA also the adapter alone, as PEFT writes it; the plain model has it merged in.
        """
        if not self.run.ranks.main:
            return
        directory = self.directory / "model"
        model = self.run.models[exported_role(self.method.roles)]
        if model.can_generate():
            model.generation_config.eos_token_id = sorted(eos_tokens(model, self.run.tokenizer))
        if has_adapter(model):
            save_model(model, self.run.tokenizer, self.directory / "adapter")
            merge_adapter(model)
        save_model(model, self.run.tokenizer, directory)
        about: dict[str, Any] = {"method": self.method.name, "rows": self.method.rows, "phase": self.name}
        about |= {"step": done.step, "eval": dict(done.evaluated)}
        if (found := calibration(done.evaluated)) is not None:
            about["calibration"] = found.to_json()
        write_json(directory / "alignlab.json", about)
