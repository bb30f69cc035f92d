"""Every hook is called by a real run (or, for a command, by the command line) where docs/hooks.md says it is."""

import json
import sys

import pytest
import small_run

from alignlab.cli.main import main
from alignlab.hooks import FAMILIES
from alignlab.ops import implementations

HOOKS = [name for family in FAMILIES for name in vars(family) if not name.startswith("_")]

PLUGIN = '''
"""A plugin that implements every hook there is, and notes what it hears."""

from dataclasses import replace
from typing import ClassVar

import torch

from alignlab import JudgeRule, Loss, MethodSettings, RewardRule, Role, Settings, TorchGenerator, hookimpl
from alignlab.ops import Kernel

heard = []
KERNEL = Kernel("gae", "everything", lambda *tensors, **settings: tensors, supports=lambda tensor: False)


class Mine(MethodSettings):
    name = "mine"
    roles = {"policy": Role()}
    per = "row"
    rows = "prompt"

    def data(self, run, records):
        return run.generate("policy", records, max_new_tokens=4)

    def reward(self, run, batch):
        run.log(score=float(run.score(batch).mean()))
        return batch

    def optimize(self, run, batch):
        return Loss(-run.logp("policy", batch).sum())


class Constant(RewardRule):
    name = "constant"

    def __call__(self, run, batch):
        return torch.full((len(batch),), 0.25)


class First(JudgeRule):
    name: ClassVar = "first"
    identity: ClassVar = "first 1"

    def __call__(self, questions):
        return [1.0] * len(questions)


class Questions:
    name = "questions"
    settings = Settings

    def load(self, settings):
        for i in range(16):
            yield f"questions, row {i + 1}", {"prompt": f"how much is {i} and {i}?"}


class SGD:
    name = "plain_sgd"

    def build(self, groups, settings):
        return torch.optim.SGD(groups, lr=settings.lr)


class Sampler(TorchGenerator):
    name = "sampler"


class Notes:
    name = "notes"

    def start(self, output, manifest):
        heard.append(("tracker", "start", manifest["seed"]))

    def log(self, phase, step, metrics):
        heard.append(("tracker", phase, step))

    def finish(self):
        heard.append(("tracker", "finish"))


class Greet:
    name = "greet"
    help = "say hello"

    def configure(self, parser):
        parser.add_argument("who")

    def run(self, args):
        heard.append(("command", args.who))


@hookimpl
def register_methods():
    heard.append(("register_methods",))
    return [Mine]


@hookimpl
def register_rewards():
    heard.append(("register_rewards",))
    return [Constant]


@hookimpl
def register_judges():
    heard.append(("register_judges",))
    return [First]


@hookimpl
def register_data():
    heard.append(("register_data",))
    return [Questions()]


@hookimpl
def register_optimizers():
    heard.append(("register_optimizers",))
    return [SGD()]


@hookimpl
def register_generators():
    heard.append(("register_generators",))
    return [Sampler()]


@hookimpl
def register_kernels():
    heard.append(("register_kernels",))
    return [KERNEL]


@hookimpl
def register_trackers():
    heard.append(("register_trackers",))
    return [Notes()]


@hookimpl
def register_commands():
    heard.append(("register_commands",))
    return [Greet()]


@hookimpl(wrapper=True)
def data_stage(run, method, records):
    batch = yield
    heard.append(("data_stage", run.train, method.name, len(records), len(batch)))
    return batch


@hookimpl(wrapper=True)
def reward_stage(run, method, batch):
    scored = yield
    heard.append(("reward_stage", run.train, method.name, len(batch), len(scored)))
    return scored


@hookimpl(wrapper=True)
def optimizer_stage(run, method, batch):
    loss = yield
    heard.append(("optimizer_stage", run.train, method.name, len(batch), torch.is_grad_enabled()))
    return loss


@hookimpl
def on_run_start(manifest):
    heard.append(("on_run_start", manifest["seed"]))


@hookimpl
def on_step_end(phase, step, metrics):
    heard.append(("on_step_end", phase, step, metrics["score"]))


@hookimpl
def on_evaluate(phase, step, metrics):
    heard.append(("on_evaluate", phase, step, metrics["num"]))


@hookimpl
def on_checkpoint(phase, step, path):
    heard.append(("on_checkpoint", phase, step, path.name))


@hookimpl
def on_run_end(output):
    heard.append(("on_run_end", output.name))
'''
KINDS = {
    "method": "mine",
    "reward": "constant",
    "judge": "first",
    "data": "questions",
    "optimizer": "plain_sgd",
    "generator": "sampler",
    "kernel": "everything",
    "tracker": "notes",
    "command": "greet",
}
RECIPE = """
output: {output}
seed: 5
plugins: [everything, judge.first, kernel.everything]
trackers: [notes]
model: {{path: {base}, device: cpu}}
data: {{source: questions, eval: 4}}
phases:
  - name: mine
    reward: [{{use: constant}}]
    optimizer:
      {{method: mine, algorithm: plain_sgd, generator: sampler, steps: 2, batch_size: 3, passes: 2, save_every: 1}}
"""


@pytest.fixture
def heard(distribution, tmp_path):
    """Run a recipe that uses the plugin for all that it has, then its command; return what it heard."""
    points = {f"{kind}.{name}": "every_hook" for kind, name in KINDS.items()} | {"everything": "every_hook"}
    distribution("everything", entry_points=points, every_hook=PLUGIN)
    small = small_run.write_recipe(tmp_path, tmp_path / "base")  # any model will do
    assert small_run.run(small, "phases.sft.optimizer.steps=1") == 0
    recipe = tmp_path / "every_hook.yaml"
    recipe.write_text(RECIPE.format(output=tmp_path / "run", base=tmp_path / "base" / "sft" / "model"))
    assert main(["run", str(recipe)]) == 0
    assert main(["greet", "you"]) == 0
    return sys.modules["every_hook"].heard


def test_every_hook_is_called_as_often_and_in_the_order_that_the_docs_say(heard, tmp_path):
    found = {hook: [event[1:] for event in heard if event[0] == hook] for hook in [*HOOKS, "tracker", "command"]}
    steps = [("mine", 1), ("mine", 2)]
    assert found == {
        **{hook: [(), ()] for hook in HOOKS if hook.startswith("register_")},  # for the run, and for the command
        "data_stage": [(True, "mine", 3, 3)] * 2 + [(False, "mine", 3, 3), (False, "mine", 1, 1)],
        "reward_stage": [(True, "mine", 3, 3)] * 2 + [(False, "mine", 3, 3), (False, "mine", 1, 1)],
        "optimizer_stage": [(True, "mine", 3, True)] * 4 + [(False, "mine", 3, False), (False, "mine", 1, False)],
        "on_run_start": [(5,)],
        "on_step_end": [(*step, 0.25) for step in steps],
        "on_evaluate": [("mine", 2, 4.0)],
        "on_checkpoint": [(*step, f"step-{step[1]:06}") for step in steps],
        "on_run_end": [("run",)],
        "tracker": [("start", 5), *steps, ("finish",)],
        "command": [("you",)],
    }
    order = [event[0] for event in heard if event[0] in HOOKS and not event[0].startswith("register_")]
    step = ["data_stage", "reward_stage", "optimizer_stage", "optimizer_stage"]
    evaluation = 2 * ["data_stage", "reward_stage", "optimizer_stage"]
    ends = ["on_step_end", "on_checkpoint"]
    assert order == ["on_run_start", *step, *ends, *step, *evaluation, "on_evaluate", *ends, "on_run_end"]
    assert "everything" in implementations("gae")
    lines = (tmp_path / "run" / "mine" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["reward/constant"] for line in lines] == [0.25, 0.25]


def test_this_plugin_implements_every_hook_there_is():
    assert [hook for hook in HOOKS if f"def {hook}(" not in PLUGIN] == []
