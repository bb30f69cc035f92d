"""Runs that stop because a number is not finite, and what `alignlab replay` says of them."""

import re
from pathlib import Path

import pytest
import small_run
from safetensors.torch import load_file

from alignlab.cli.main import main

PPO = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, eval: 0.25, num_rows: 64, kind: prompts}}
phases:
  - name: ppo
    reward: [{{use: "alignlab.data.world:true_reward_function"}}]
    optimizer: {{method: ppo, lr: 1.0e-3, steps: 2, batch_size: 8, minibatches: 2, max_new_tokens: 6}}
plugins: [breaker]
"""
INFINITE_LOSS = """
    from alignlab import Loss, hookimpl

    @hookimpl(wrapper=True)
    def optimizer_stage(run, batch):
        loss = yield
        if any(record.where.endswith("row 30") for record in batch.records):
            return Loss(loss.total * float("inf"), {"twice": 2 * loss.total.detach()})
        return loss
"""
BROKEN_ADVANTAGE = """
    from alignlab import hookimpl

    @hookimpl(wrapper=True)
    def reward_stage(run, batch):
        scored = yield
        scored.advantages[3, scored.last_acted()[3]] = float("nan")
        return scored
"""
ROOT_OF_NOTHING = """
    import torch
    from alignlab import Loss, hookimpl

    @hookimpl(wrapper=True)
    def optimizer_stage(run, batch):
        loss = yield
        nothing = loss.total - loss.total
        return Loss(loss.total + nothing * nothing.sqrt(), loss.metrics)
"""
NO_POSITION_60 = """
    import torch
    from alignlab import hookimpl

    @hookimpl(wrapper=True)
    def optimizer_stage(run, batch):
        with torch.no_grad():
            run.models["policy"].transformer.wpe.weight[60] = float("nan")
        return (yield)
"""


def stopped(recipe: Path, capsys, *overrides: str) -> tuple[Path, str]:
    """Run until it stops; return the directory that the error names, and the error."""
    assert small_run.run(recipe, *overrides) == 2
    said = capsys.readouterr().err
    found = re.search(r"to do: alignlab replay (\S+)", said)
    assert found, said
    return Path(found[1]), said


def replayed(directory: Path, capsys) -> str:
    capsys.readouterr()
    assert main(["replay", str(directory)]) == 0
    return capsys.readouterr().out


def test_a_diverged_run_is_replayed_with_its_own_numbers_and_its_weights_are_blamed(tmp_path, capsys):
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run")
    settings = ("phases.sft.optimizer.lr=1.0e+30", "phases.sft.optimizer.schedule=constant")
    directory, said = stopped(recipe, capsys, *settings)
    assert re.search(r"norm of its gradient (nan|inf)", said)
    out = replayed(directory, capsys)
    assert "(the same)" in out
    assert re.search(r"weights of policy: the largest is \S+e\+(29|30), in model\.embed_tokens", out)
    assert len(re.findall(r"^  gradient: .*modeling_llama", out, re.M)) == 8  # every row


def test_a_plugin_that_makes_one_row_s_loss_infinite_is_found_by_that_row(distribution, tmp_path, capsys):
    distribution("breaker", entry_points={"breaker": "infinite_loss"}, infinite_loss=INFINITE_LOSS)
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run", small_run.RECIPE + "plugins: [breaker]\n")
    directory, said = stopped(recipe, capsys, "phases.sft.optimizer.steps=12")
    assert "the loss is inf" in said
    out = replayed(directory, capsys)
    assert "in the run: loss inf" in out
    assert "(the same)" in out
    blamed = re.findall(r"^unit .*", out, re.M)
    assert len(blamed) == 1
    assert blamed[0].endswith("(world demonstrations, row 30):")
    assert "  term loss is inf" in out
    assert "term twice" not in out


def test_a_broken_advantage_is_found_by_its_token_in_the_method_s_own_batch(distribution, tmp_path, capsys):
    distribution("breaker", entry_points={"breaker": "broken_advantage"}, broken_advantage=BROKEN_ADVANTAGE)
    directory, _ = stopped(small_run.write_recipe(tmp_path, tmp_path / "run", PPO), capsys)
    out = replayed(directory, capsys)
    assert "(the same)" in out
    assert (
        len(re.findall(r"^batch\.advantages: nan at row \d+ \(world prompts, row \d+\), column \d+$", out, re.M)) == 1
    )
    assert len(re.findall(r"^unit ", out, re.M)) == 1
    assert "  term policy_loss is nan" in out
    assert "term value_loss" not in out


def test_a_gradient_that_is_not_finite_where_the_loss_is_names_the_function_and_the_line(
    distribution, tmp_path, capsys
):
    distribution("breaker", entry_points={"breaker": "root_of_nothing"}, root_of_nothing=ROOT_OF_NOTHING)
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run", small_run.RECIPE + "plugins: [breaker]\n")
    directory, said = stopped(recipe, capsys)
    assert re.search(r"the loss is \d.*gradient nan", said)
    out = replayed(directory, capsys)
    assert re.search(r"gradient: Function 'SqrtBackward0' returned nan .*root_of_nothing\.py\", line \d+", out)
    assert "term" not in out


def test_log_probs_that_are_not_finite_are_found_by_row_and_token(distribution, tmp_path, capsys):
    distribution("breaker", entry_points={"breaker": "no_position_60"}, no_position_60=NO_POSITION_60)
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run", small_run.RECIPE + "plugins: [breaker]\n")
    directory, _ = stopped(recipe, capsys, "model.new.architecture=gpt2")
    valid = load_file(directory / "batch.safetensors")["valid"]
    reach = [row for row, length in enumerate(valid.sum(1).tolist()) if length > 60]
    assert 0 < len(reach) < len(valid)
    out = replayed(directory, capsys)
    assert [int(row) for row in re.findall(r"^unit \d+, rows \[(\d+)\]", out, re.M)] == reach
    assert len(
        re.findall(r"^  policy logp is nan at row 0 of the unit, token \d+ \('.*', id \d+\)$", out, re.M)
    ) >= len(reach)


def test_what_is_no_saved_batch_is_an_error_that_says_what_is(tmp_path, capsys):
    assert main(["replay", str(tmp_path)]) == 2
    assert "RUN/PHASE/bad-batch-step-N" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["batch.safetensors", "policy.safetensors"])
def test_a_damaged_batch_is_an_error_that_names_it(tmp_path, capsys, file):
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run")
    directory, _ = stopped(recipe, capsys, "phases.sft.optimizer.lr=1.0e+30", "phases.sft.optimizer.schedule=constant")
    (directory / file).write_bytes((directory / file).read_bytes()[:-50])
    assert main(["replay", str(directory)]) == 2
    assert str(directory) in capsys.readouterr().err
