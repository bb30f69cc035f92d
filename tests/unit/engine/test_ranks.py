"""Two ranks, started by torchrun, do what one process does."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignlab.engine.ranks import Ranks
from alignlab.errors import RecipeError

RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, eval: 0.25, num_rows: 64}}
phases:
  - name: sft
    data: {{kind: demonstrations}}
    optimizer: {{method: sft, lr: 3.0e-3, steps: 4, batch_size: 8, save_every: 2}}
  - name: rm
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: reward_model, lr: 1.0e-3, steps: 3, batch_size: 8, microbatch_tokens: 128}}
  - name: ppo
    from: sft
    data: {{kind: prompts}}
    reward: [{{use: reward_model, from: rm}}, {{use: "alignlab.data.world:true_reward_function", name: truth}}]
    optimizer:
      {{method: ppo, lr: 1.0e-3, steps: 3, batch_size: 7, passes: 2, minibatches: 2, max_new_tokens: 8,
       whiten_rewards: true}}
  - name: dpo
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: dpo, lr: 1.0e-3, steps: 3, batch_size: 8}}
report:
  baseline: sft
  reward: [{{use: reward_model, from: rm}}]
  data: {{kind: prompts}}
  num_prompts: 8
  max_new_tokens: 8
"""
PRIMITIVES = """
import sys, torch
from alignlab.engine.ranks import Ranks
from alignlab.errors import RecipeError
ranks = Ranks.start()
assert ranks.size == 2
for num in (0, 1, 5):
    items = list(range(num))
    assert ranks.merge([x * 10 for x in ranks.share(items)], num) == [x * 10 for x in items]
assert ranks.add(torch.tensor([1.0 + ranks.rank])).item() == 3.0
both, one, none = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
both.grad = torch.full((2,), 1.0 + ranks.rank)
one.grad = torch.ones(2) if ranks.main else None
ranks.add_gradients([both, one, none])
assert both.grad.tolist() == [3.0, 3.0] and one.grad.tolist() == [1.0, 1.0] and none.grad is None
assert ranks.once(lambda: f"said by {ranks.rank}") == "said by 0"
odd = type("Odd", (Exception,), {})("cannot be pickled")
for error, kind in ((RecipeError("no", where="r.yaml"), RecipeError), (odd, RuntimeError)):
    def fail():
        raise error
    try:
        ranks.once(fail)
    except Exception as raised:
        assert type(raised) is (type(error) if ranks.main and kind is RecipeError else kind), type(raised)
    else:
        sys.exit("no error")
print("agreed")
"""


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*start, *command], capture_output=True, text=True, timeout=300)


def numbers(output: Path, phase: str) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (output / phase / "metrics.jsonl").read_text().splitlines()]
    # Where the policy still is the reference, rounding decides whether one answer of a pair is ahead.
    return [{key: value for key, value in row.items() if key not in ("seconds", "accuracy")} for row in rows]


def test_ranks_share_merge_add_and_fail_together(tmp_path):
    script = tmp_path / "primitives.py"
    script.write_text(PRIMITIVES)
    found = torchrun(str(script))
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("agreed") == 2


def test_two_ranks_end_where_one_process_does(tmp_path):
    recipes = {}
    for name in ("one", "two"):
        recipes[name] = tmp_path / f"{name}.yaml"
        recipes[name].write_text(RECIPE.format(output=tmp_path / name))
    command = [sys.executable, "-m", "alignlab", "run", str(recipes["one"])]
    alone = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert alone.returncode == 0, alone.stderr
    found = torchrun("-m", "alignlab", "run", str(recipes["two"]))
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("sft: done in") == 1  # one rank speaks
    assert "on 2 ranks of cpu" in found.stdout
    for phase in ("sft", "rm", "ppo", "dpo"):
        one, two = numbers(tmp_path / "one", phase), numbers(tmp_path / "two", phase)
        assert len(one) == len(two) > 0
        for ours, theirs in zip(one, two, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5), phase
        weights = [load_file(tmp_path / name / phase / "model" / "model.safetensors") for name in ("one", "two")]
        for key, value in weights[0].items():
            torch.testing.assert_close(value, weights[1][key], rtol=1e-3, atol=1e-4, msg=f"{phase} {key}")


def test_an_error_survives_the_way_to_the_other_ranks():
    error = pickle.loads(pickle.dumps(RecipeError("what", where="here", do="this")))
    assert type(error) is RecipeError
    assert (error.what, error.where, error.do) == ("what", "here", "this")


def test_a_process_alone_is_the_main_one_and_keeps_everything():
    ranks = Ranks.start()
    assert ranks.main
    assert ranks.share([3, 1]) == [3, 1]
    assert ranks.merge([3, 1], 2) == [3, 1]
