"""Kill `alignlab run` with SIGKILL, run it again until it ends, and compare with a run that nobody killed.

    PYTHONPATH=tests .venv/bin/python tests/kills/harness.py [--kills 40] [--seed 0]

Writes benchmarks/results/kills.json: what was killed where. Fails if a byte of what is left differs.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PHASES = ("sft", "rm", "ppo", "dpo")
RECIPE = """
output: OUTPUT
model: {new: {hidden_size: 32, num_layers: 2, num_heads: 2, vocab_size: 320, context_length: 128}, device: cpu}
data: {source: world, eval: 0.25, num_rows: 96}
plugins: [watch]
trackers: [tensorboard]
phases:
  - name: sft
    data: {kind: demonstrations}
    optimizer:
      {method: sft, lr: 3.0e-3, steps: 8, batch_size: 8, save_every: 2, eval_every: 3, keep_best: {min: eval/loss}}
  - name: rm
    from: sft
    data: {kind: preferences}
    optimizer:
      {method: reward_model, lr: 1.0e-3, steps: 7, batch_size: 8, save_every: 3, eval_every: 2,
       keep_best: {max: eval/accuracy}, keep_last: 1, export: best}
  - name: ppo
    from: sft
    data: {kind: prompts}
    reward: [{use: reward_model, from: rm}]
    optimizer:
      {method: ppo, lr: 1.0e-3, steps: 6, batch_size: 8, save_every: 2, passes: 2, minibatches: 2, max_new_tokens: 12}
  - name: dpo
    from: sft
    data: {kind: preferences}
    optimizer: {method: dpo, lr: 1.0e-3, steps: 8, batch_size: 8, save_every: 3, eval_every: 4}
report:
  baseline: sft
  reward: [{use: "alignlab.data.world:true_reward_function", name: truth}, {use: reward_model, from: rm}]
  data: {kind: prompts}
  num_prompts: 16
  max_new_tokens: 12
"""
# A plugin that notes what the run is doing, so that a kill can be aimed, and told of. It is part of both runs.
WATCH = """
import os
from alignlab import hookimpl

NOTES = os.open(os.environ["ALIGNLAB_WATCH"], os.O_RDWR | os.O_CREAT)

def note(phase, activity):
    os.pwrite(NOTES, f"{phase} {activity}".ljust(80).encode(), 0)

def noted(run, stage):
    note(run.phase, stage if run.train else f"evaluation: {stage}")
    result = yield
    note(run.phase, f"after the {stage}")
    return result

@hookimpl(wrapper=True)
def data_stage(run):
    return (yield from noted(run, "data stage"))

@hookimpl(wrapper=True)
def reward_stage(run):
    return (yield from noted(run, "reward stage"))

@hookimpl(wrapper=True)
def optimizer_stage(run):
    return (yield from noted(run, "optimizer stage"))

@hookimpl
def on_step_end(phase):
    note(phase, "end of the step")
"""


@dataclass(frozen=True)
class Aim:
    """What a kill waits for."""

    name: str
    phase: str | None  # what it can no longer be aimed at once this phase is finished; None: at no time
    hit: Callable[[Path, str], bool]  # by the run directory and the plugin's note


def after(seconds: float, first_note: bool) -> Aim:
    """Aim at a time: after the start of the process, or after the first stage that it calls."""
    began: list[float] = [] if first_note else [time.monotonic()]

    def hit(output: Path, note: str) -> bool:
        if note and not began:
            began.append(time.monotonic())
        return bool(began) and time.monotonic() > began[0] + seconds

    return Aim(f"{seconds:.2f} s after {'the first stage' if first_note else 'the start'}", None, hit)


def stage(phase: str, activity: str) -> Aim:
    return Aim(f"{activity} of {phase}", phase, lambda output, note: note.startswith(phase) and activity in note)


def there(name: str, phase: str, pattern: str, but: str | None = None) -> Aim:
    """Aim at the appearance of a file or directory, as long as another is not there."""

    def hit(output: Path, note: str) -> bool:
        return next(output.glob(pattern), None) is not None and not (but and (output / but).exists())

    return Aim(name, phase, hit)


def aims() -> list[Aim]:
    """Return everything that is aimed at, in the order of a run."""
    found = [
        there("building the base model", "sft", ".base-model.new"),
        there("writing the data cache", "rm", "cache/.*.new"),
    ]
    for phase in PHASES:
        found += [
            stage(phase, "data stage"),
            stage(phase, "optimizer stage"),
            there(f"saving a checkpoint of {phase}", phase, f"{phase}/checkpoints/.step-*.new"),
            there(f"removing a checkpoint of {phase}", phase, f"{phase}/checkpoints/.step-*.old"),
            there(f"exporting {phase}", phase, f"{phase}/.model.new"),
            there(f"{phase} exported, not finished", phase, f"{phase}/model", but=f"{phase}/phase.json"),
        ]
    found.append(there("the report", "report", f"{PHASES[-1]}/phase.json", but="report.json"))
    return found


class Trial:
    """A run directory, and the runs that are started in it."""

    def __init__(self, scratch: Path) -> None:
        """Write the recipe and the plugin."""
        self.output, self.notes = scratch / "run", scratch / "notes"
        self.recipe = scratch / "recipe.yaml"
        self.recipe.write_text(RECIPE.replace("OUTPUT", str(self.output)))
        about = scratch / "site" / "watch-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: watch\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[alignlab]\nwatch = watch\n")
        (scratch / "site" / "watch.py").write_text(WATCH)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(scratch / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "ALIGNLAB_WATCH": str(self.notes),
            "OMP_NUM_THREADS": "1",
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start `alignlab run`."""
        self.notes.unlink(missing_ok=True)
        main = "import sys; from alignlab.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", main, "run", str(self.recipe)]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self) -> tuple[float, float]:
        """Run to the end; return the seconds until the first stage was called, and those after it."""
        began = first = time.monotonic()
        with self.start() as process:
            while process.poll() is None:
                if first == began and self._note():
                    first = time.monotonic()
                time.sleep(0.005)
            said = process.communicate()[1].decode()
        if process.returncode:
            raise RuntimeError(f"alignlab run ended with {process.returncode}: {said}")
        return first - began, time.monotonic() - first

    def kill(self, make_aim: Callable[[], Aim], delay: float = 0.0) -> dict[str, object] | None:
        """Start a run and kill it at what it is aimed at; return where it was, or None if it ended before."""
        with self.start() as process:
            aim = make_aim()
            while not aim.hit(self.output, self._note()):
                if process.poll() is not None:
                    if process.returncode:
                        assert process.stderr is not None
                        raise RuntimeError(f"{process.returncode}: {process.stderr.read().decode()}")
                    return None
                time.sleep(0.0005)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        if process.returncode != -signal.SIGKILL:
            return None
        return {"aim": aim.name, **self._found()}

    def done(self, phase: str | None) -> bool:
        """Return whether a phase is finished, or the report written."""
        return (self.output / ("report.json" if phase == "report" else f"{phase}/phase.json")).exists()

    def _note(self) -> str:
        return self.notes.read_text().strip() if self.notes.exists() else ""

    def _found(self) -> dict[str, object]:
        """Return where a killed run was: by what stands half written beside its place, else by the plugin's note."""
        finished = [phase for phase in PHASES if self.done(phase)]
        phase, activity = self._note().split(" ", 1) if self._note() else ("", "")
        if phase in finished or (not phase and finished):  # the note is of the last stage that was called
            phase, activity = "", "the report" if len(finished) == len(PHASES) else "preparing a phase"
        if not activity:
            activity = "start" if not self.output.exists() else "preparing the run"
        elif activity == "end of the step" and (self.output / phase / "model").exists():
            activity = "exported, not finished"
        if left := [path for path in self.output.rglob(".*.*") if path.suffix in (".new", ".old")]:
            activity = f"writing {left[0].relative_to(self.output)}"
        written = self.output / phase / "metrics.jsonl"
        step = len(written.read_text().splitlines()) if phase and written.exists() else 0
        in_step = bool(phase) and "stage" in activity
        return {"phase": phase, "step": step + in_step, "activity": activity}


def differences(trial: Path, unbroken: Path) -> list[str]:
    """Return the files of two run directories whose content differs, or that only one has."""
    ours, theirs = content(trial), content(unbroken)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def content(output: Path) -> dict[str, object]:
    """Return what a run has left, by file; without clock times, and with events of TensorBoard by step."""
    found: dict[str, object] = {}
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.is_dir() or name in (".lock", "recipe.yaml") or name.startswith("tensorboard/"):
            continue  # the lock holds a process id, the recipe its own directory
        if path.name == "metrics.jsonl":
            found[name] = [without_seconds(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "phase.json":
            found[name] = without_seconds(json.loads(path.read_text()))
        elif name.startswith("cache/"):
            size = int.from_bytes(path.read_bytes()[:8], "little")  # safetensors writes metadata in no fixed order
            found[name] = (json.loads(path.read_bytes()[8 : 8 + size]), path.read_bytes()[8 + size :])
        else:
            found[name] = path.read_bytes()
    for phase in PHASES:
        found[f"tensorboard/{phase}"] = tensorboard_steps(output / "tensorboard" / phase)
    return found


def without_seconds(row: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if key != "seconds"}


def tensorboard_steps(directory: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        result = run_kills(Path(scratch), args.kills, rng)
    import torch
    import transformers

    result |= {
        "seed": args.seed,
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1, "cores": os.cpu_count()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }
    (ROOT / "benchmarks" / "results" / "kills.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{len(result['kills'])} kills, {result['runs']} runs, {len(result['different'])} of them different")
    return 1 if result["different"] else 0


def run_kills(scratch: Path, num: int, rng: random.Random) -> dict[str, object]:
    """Kill `num` times: a third at random times of a fresh run, the others at what `aims` names."""
    unbroken, again = (Trial(make(scratch / name)) for name in ("unbroken", "again"))
    start, rest = unbroken.finish()
    again.finish()
    if wrong := differences(again.output, unbroken.output):
        raise RuntimeError(f"two unbroken runs differ: {wrong}")
    deck = deque(rng.sample(aims()[1:], k=len(aims()) - 1))
    kills: list[dict[str, object]] = []
    different: list[dict[str, object]] = []
    runs = 0
    while len(kills) < num:
        trial = Trial(make(scratch / f"run-{runs}"))
        began = len(kills)
        if runs == 0:
            found = trial.kill(lambda: aims()[0])  # the base model, which is built once
        else:
            first_note = rng.random() < 0.75  # starting takes as long as all the rest of so small a run
            wait = rng.uniform(0, rest if first_note else start)
            found = trial.kill(lambda wait=wait, first_note=first_note: after(wait, first_note))
        while found is not None and len(kills) - began < 3 and len(kills) < num:
            kills.append({"run": runs, **found})
            print(kills[-1], flush=True)
            possible = [aim for aim in deck if not trial.done(aim.phase)]
            if not possible or len(kills) - began == 3 or len(kills) == num:
                break
            aim = possible[0]
            deck.remove(aim)
            deck.append(aim)
            delay = rng.uniform(0, 0.5) if aim.phase == "report" else rng.choice([0, 0, 0.003, 0.01])
            found = trial.kill(lambda aim=aim: aim, delay)
        trial.finish()
        if wrong := differences(trial.output, unbroken.output):
            different.append({"run": runs, "files": wrong})
            print(f"run {runs} differs: {wrong}", flush=True)
        runs += 1
    return {"kills": kills, "runs": runs, "different": different, "seconds": {"start": start, "rest": rest}}


def make(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


if __name__ == "__main__":
    sys.exit(main())
