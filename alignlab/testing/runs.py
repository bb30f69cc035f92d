"""Checks of a method in whole runs, through the engine's own road: bf16, learning, resuming, two ranks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from alignlab.batch import Batch, Record
from alignlab.config import load_recipe
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.engine.roles import exported_role
from alignlab.engine.run import EngineRun
from alignlab.hooks import hookimpl
from alignlab.method import MethodSettings
from alignlab.models import load_model, load_tokenizer
from alignlab.testing.promise import BrokenPromise
from alignlab.testing.subject import Subject
from alignlab.testing.world import REWARD, scratch, shared_model, shared_rows, tiny_split

PHASE = "checked"
# The check "learns": ten epochs of a few rows, or prompts that are answered.
LEARNING = {"steps": 30, "batch_size": 16, "lr": 3e-3, "schedule": "constant"}
SAMPLING = {"steps": 30, "batch_size": 8, "lr": 1e-2, "schedule": "constant"}
WINDOW = 8  # steps at either end whose rewards are compared: 512 tokens, whose mean is known to 0.02
GAIN = {"prompt": 0.1, "completion": 0.1, "preference": 0.1, "label": 0.05, "ranked": 0.1, "steps": 0.1}
PATIENCE = 300  # seconds


def _recipe(subject: Subject, directory: Path, **optimizer: Any) -> Path:
    """Write the recipe of one phase with the method; `directory` becomes the run's, and the file stands beside it."""
    own = subject.method.model_dump(mode="json", by_alias=True, exclude_unset=True)
    common = {"method": subject.cls.name, "log_samples": 0, "batch_size": 4, "lr": 1e-3}
    phase: dict[str, Any] = {
        "name": PHASE,
        "data": {"source": "rows", "path": str(shared_rows(subject.method.rows)), "eval": 0.25},
        "optimizer": {**common, **own, **optimizer},
    }
    if subject.method.rows == "prompt":
        phase["reward"] = [{"use": REWARD, "name": "kit"}]
    recipe = {"output": str(directory), "model": {"path": str(shared_model()), "device": "cpu"}, "phases": [phase]}
    path = directory.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))
    return path


def _run(subject: Subject, recipe: Path, observer: Any = None) -> None:
    plugins = subject.plugins()
    if observer is not None:
        plugins.manager.register(observer)
    Pipeline(load_recipe(recipe), Display(Console(quiet=True)), plugins).run()


def _metrics(directory: Path) -> list[dict[str, float]]:
    rows = (json.loads(line) for line in (directory / PHASE / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def _weights(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / PHASE / "model" / "model.safetensors")


def check_bf16(subject: Subject) -> None:
    """Check that a run in bf16 goes through, and that its loss is a number."""
    with scratch() as directory:
        _run(subject, _recipe(subject, directory / "run", steps=2, precision="bf16"))
        losses = [row["loss"] for row in _metrics(directory / "run")]
        finite = all(bool(value.isfinite().all()) for value in _weights(directory / "run").values())
    if not finite or any(loss != loss for loss in losses):
        cause = "log-probs and losses are fp32 there too: keep what is computed of them in fp32"
        raise BrokenPromise("it runs in bf16", f"losses {losses}, weights {'' if finite else 'not '}finite", cause)


def check_learns(subject: Subject) -> None:
    """Check that training brings about what the rows show, measured without the method's own loss."""
    rows = subject.method.rows
    with scratch() as directory:
        _run(subject, _recipe(subject, directory / "run", **(SAMPLING if rows == "prompt" else LEARNING)))
        if rows == "prompt":
            rewards = [row["reward/kit"] for row in _metrics(directory / "run") if "reward/kit" in row]
            if not rewards:
                cause = "reward() does not call run.score(batch)"
                raise BrokenPromise("the recipe's reward is asked", "no reward was logged", cause)
            before, after = (sum(part) / WINDOW for part in (rewards[:WINDOW], rewards[-WINDOW:]))
        else:
            records = tiny_split(shared_model(), rows).train[:16]
            before = measure(subject.method, shared_model(), records)
            after = measure(subject.method, directory / "run" / PHASE / "model", records)
    if not after - before >= GAIN[rows]:
        raise BrokenPromise(
            f"it learns what rows of the format {rows!r} show: {MEASURES[rows]} goes up",
            f"{before:.4g} before, {after:.4g} after {LEARNING['steps']} steps; wanted {GAIN[rows]:g} more",
            "a sign is turned, or the better and the worse answer are exchanged; or its default settings learn slowly: "
            "give others in `settings`; or it has another aim: leave out the check 'learns'",
        )


MEASURES = {
    "prompt": "the reward of the answers",
    "completion": "the log-prob of the shown answers, in nats a token,",
    "preference": "the chosen answer's lead over the rejected one, in log-prob or score,",
    "label": "the lead of answers labelled true over those labelled false, in log-prob a token or score,",
    "ranked": "the lead of the best answer over the worst, in log-prob or score,",
    "steps": "the lead of right steps over wrong ones (of a policy: the log-prob of the steps)",
}


@torch.no_grad()
def measure(method: MethodSettings, model: Path, records: list[Record]) -> float:
    """Return how well a model does what the records show, by MEASURES."""
    role = exported_role(method.roles)
    head = method.roles[role].head
    loaded = load_model(str(model), head, dtype=torch.float32, device=torch.device("cpu"))
    run = EngineRun({role: loaded}, load_tokenizer(str(model)), seed=0)
    batch = MethodSettings.data(method, run, records)
    if method.rows == "steps" and head == "scalar":
        scores = run.value(role, batch).roll(-1, 1)[batch.acted]
        labels = torch.tensor([label for record in records for label in record.columns["labels"]], dtype=torch.bool)
        return float(scores[labels].mean() - scores[~labels].mean())
    if head == "scalar":
        values = run.sequence_score(role, batch)
    else:
        values = run.logp(role, batch).sum(1)
        if method.rows in ("completion", "label", "steps"):
            values = values / batch.acted.sum(1).clamp_min(1)
    return _lead(method.rows, values, batch, records)


def _lead(rows: str, values: Tensor, batch: Batch, records: list[Record]) -> float:
    """Return the mean lead of better rows over worse ones, or the mean where there are none."""
    if rows == "preference":
        return float((values[0::2] - values[1::2]).mean())
    if rows == "label":
        good = torch.tensor([bool(record.columns["label"]) for record in records])
        return float(values[good].mean() - values[~good].mean())
    if rows == "ranked":
        by_unit = [values[batch.unit == unit] for unit in range(len(records))]
        ranks = [torch.tensor(record.columns["ranks"]) for record in records]
        return float(torch.stack([v[r.argmin()] - v[r.argmax()] for v, r in zip(by_unit, ranks, strict=True)]).mean())
    return float(values.mean())


class _Killed(BaseException):
    """Ends a run as a signal would: nothing of it is written any more."""


class _Kill:
    """Kills a run after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def on_step_end(self, step: int) -> None:
        """Kill it."""
        if step == self.step:
            raise _Killed


def check_resume(subject: Subject) -> None:
    """Check that a run that is killed between two checkpoints ends with the bits of an unbroken one."""
    settings = {"steps": 5, "save_every": 2, "eval_every": 2}
    with scratch() as directory:
        _run(subject, _recipe(subject, directory / "unbroken", **settings))
        recipe = _recipe(subject, directory / "broken", **settings)
        try:
            _run(subject, recipe, _Kill(3))
        except _Killed:
            pass
        else:
            raise AssertionError("the run was not killed")
        _run(subject, recipe)
        ours, theirs = (_metrics(directory / name) for name in ("broken", "unbroken"))
        bits, wanted = (_weights(directory / name) for name in ("broken", "unbroken"))
    cause = (
        "something that lives outside of run.state: an attribute of the method or module, a cache, a generator of its "
        "own; keep it in run.state, and draw from run.rng"
    )
    promise = "a run that was killed and goes on has the bits of an unbroken one"
    for mine, one in zip(ours, theirs, strict=True):
        if differ := [name for name in one if not _same_bits(mine.get(name), one[name])]:
            found = f"at step {one['step']:.0f}, {differ[0]} is {mine.get(differ[0])} and was {one[differ[0]]}"
            raise BrokenPromise(promise, f"{found} (killed after step 3, last checkpoint at step 2)", cause)
    if differ := [name for name in wanted if not torch.equal(bits[name], wanted[name])]:
        raise BrokenPromise(promise, f"{len(differ)} of {len(wanted)} weights differ, {differ[0]} first", cause)


def _same_bits(one: float | None, two: float) -> bool:
    return one == two or (one is not None and one != one and two != two)


def check_ranks(subject: Subject) -> None:
    """Check that two ranks, real processes that talk by gloo, end where one process does."""
    # Adam's first steps are the gradient's sign: a large eps keeps what is rounding from becoming a step.
    settings = {"steps": 2, "eps": 1e-2}
    with scratch() as directory:
        _run(subject, _recipe(subject, directory / "one", **settings))
        recipe = _recipe(subject, directory / "two", **settings)
        spec = directory / "spec.json"
        spec.write_text(json.dumps({"recipe": str(recipe), "source": subject.source}))
        _run_ranks(spec)
        ones, twos = (_metrics(directory / name) for name in ("one", "two"))
        weights, theirs = (_weights(directory / name) for name in ("one", "two"))
    cause = (
        "a statistic that is taken in optimize(), where each rank sees its share only; or randomness or an order that "
        "differs between processes"
    )
    promise = "two ranks end where one process does"
    for one, two in zip(ones, twos, strict=True):
        for name in ("loss", "grad_norm"):
            if not abs(one[name] - two[name]) <= 1e-3 * abs(one[name]) + 1e-5:
                found = (
                    f"at step {one['step']:.0f} the {name} is {two[name]:.6g} on two ranks, and {one[name]:.6g} on one"
                )
                raise BrokenPromise(promise, found, cause)
    gaps = {name: float((value - theirs[name]).abs().max()) for name, value in weights.items()}
    worst = max(gaps, key=lambda name: gaps[name])
    if not gaps[worst] <= 1e-4:
        raise BrokenPromise(promise, f"{worst} differs by up to {gaps[worst]:.3g}", cause)


def _run_ranks(spec: Path) -> None:
    """Run two ranks; whatever happens, none of them stays behind."""
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "alignlab.testing.two_ranks", str(spec)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        _, said = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        said = f"they did not end within {PATIENCE} s: one may wait for what the other never sends"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        lines = [line for line in said.strip().splitlines() if line.startswith("rank ")] or said.strip().splitlines()[
            -3:
        ]
        raise BrokenPromise("it runs on two ranks", "; ".join(lines), "the error of the rank that failed first says it")
