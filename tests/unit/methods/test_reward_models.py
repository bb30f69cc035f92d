"""Reward models of pairs with margins, of ranked lists, and of steps: each loss by its formula on the toy."""

import logging
from dataclasses import replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
import toy
from pydantic import ValidationError

from alignlab.errors import DataError


def prepared(base, name, rows=None, **settings):
    chosen = toy.method(name, **settings)
    run = toy.run_for(base, chosen)
    records = toy.split_for(base, chosen.rows).train[:6] if rows is None else rows
    return chosen, run, toy.collect(run, chosen, records)


def last_scores(run, batch):
    """What plain transformers scores each row, alone and without padding."""
    model = run.models["reward"]
    with torch.no_grad():
        rows = [model(input_ids=batch.tokens[i : i + 1, : int(n)]).logits[0, 0] for i, n in enumerate(batch.lengths)]
    return torch.stack(rows)


def pairs_with(base, **columns):
    records = toy.split_for(base, "preference").train[: len(next(iter(columns.values())))]
    return [
        replace(record, columns={**record.columns, **{name: values[i] for name, values in columns.items()}})
        for i, record in enumerate(records)
    ]


def test_a_margin_is_taken_from_its_column(base):
    chosen, run, batch = prepared(base, "reward_model", pairs_with(base, gap=[0, 1.5, -1]), margin="gap", center_coef=0)
    scores = last_scores(run, batch)
    expected = -F.logsigmoid(scores[0::2] - scores[1::2] - torch.tensor([0, 1.5, -1])).sum()
    with torch.no_grad():
        assert float(chosen.optimize(run, batch).total) == pytest.approx(float(expected), rel=1e-4)


def test_a_margin_may_be_one_number_for_all_pairs(base):
    chosen, run, batch = prepared(base, "reward_model", margin=0.5, center_coef=0)
    scores = last_scores(run, batch)
    expected = -F.logsigmoid(scores[0::2] - scores[1::2] - 0.5).sum()
    with torch.no_grad():
        assert float(chosen.optimize(run, batch).total) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("value", ["1", True, float("nan"), None])
def test_a_margin_that_is_no_number_names_the_row_and_the_column(base, value):
    rows = pairs_with(base, gap=[1.0, value])
    with pytest.raises(DataError, match="`gap`") as raised:
        prepared(base, "reward_model", rows, margin="gap")
    assert raised.value.where == rows[1].where


def test_a_column_margin_that_no_setting_names_is_said(base, caplog):
    with caplog.at_level(logging.WARNING, "alignlab"):
        prepared(base, "reward_model", pairs_with(base, margin=[1.0, 1.0]))
    assert "used with `margin: margin` only" in caplog.text


def test_the_answers_to_a_prompt_are_one_unit_and_lists_differ_in_length(base):
    _, _, batch = prepared(base, "all_pairs")
    counts = batch.unit.bincount().tolist()
    assert counts == [len(record.columns["ranks"]) for record in unique(batch)]
    assert len(set(counts)) > 1


def unique(batch):
    return [record for i, record in enumerate(batch.records) if i == 0 or batch.unit[i] != batch.unit[i - 1]]


@pytest.mark.parametrize("name", ["all_pairs", "plackett_luce"])
def test_the_loss_of_ranked_lists_is_that_of_plain_scores(base, name):
    chosen, run, batch = prepared(base, name, center_coef=0)
    scores = last_scores(run, batch).double()
    total = 0.0
    for unit, record in enumerate(unique(batch)):
        own, ranks = scores[batch.unit == unit], torch.tensor(record.columns["ranks"])
        ordered = own[ranks.argsort()]
        if name == "all_pairs":
            losses = [-F.logsigmoid(a - b) for a, b in combinations(ordered, 2)]
            total += float(sum(losses) / len(losses))
        else:
            total -= float(sum(ordered[k] - ordered[k:].logsumexp(0) for k in range(len(ordered))))
    with torch.no_grad():
        assert float(chosen.optimize(run, batch).total) == pytest.approx(total, rel=1e-4)


def test_the_scale_of_ranked_scores_is_over_prompts_and_then_their_answers(base):
    chosen, run, batch = prepared(base, "all_pairs")
    scores = last_scores(run, batch).double()
    units = [scores[batch.unit == unit] for unit in batch.unit.unique()]
    with torch.no_grad():
        metrics = chosen.optimize(run, batch).metrics
    assert float(metrics["score_mean"]) == pytest.approx(float(sum(own.mean() for own in units)), rel=1e-4)
    assert float(metrics["score_square"]) == pytest.approx(float(sum(own.square().mean() for own in units)), rel=1e-4)


def test_accuracy_and_ties_are_of_pairs_averaged_over_each_prompt(base):
    records = toy.split_for(base, "ranked").train
    three = next(r for r in records if len(r.columns["ranks"]) == 3)
    rows = [replace(three, columns={**three.columns, "ranks": [1, 2, 2]}), three]
    chosen, run, batch = prepared(base, "all_pairs", rows)
    scores = last_scores(run, batch)
    expected = 0.0
    for own, ranks in ((scores[:3], [1, 2, 2]), (scores[3:], three.columns["ranks"])):
        right = [
            float((own[i] > own[j]) == (ranks[i] < ranks[j]))
            for i, j in combinations(range(3), 2)
            if ranks[i] != ranks[j]
        ]
        expected += sum(right) / len(right)
    with torch.no_grad():
        metrics = chosen.optimize(run, batch).metrics
    assert float(metrics["accuracy"]) == pytest.approx(expected)
    assert float(metrics["ties"]) == pytest.approx(1 / 3)


def test_centering_of_a_list_is_the_mean_over_its_pairs(base):
    plain, run, batch = prepared(base, "all_pairs", center_coef=0)
    centred = toy.method("all_pairs", center_coef=0.5)
    scores = last_scores(run, batch)
    expected = 0.0
    for unit in batch.unit.unique():
        squares = [(a + b) ** 2 for a, b in combinations(scores[batch.unit == unit], 2)]
        expected += 0.5 * float(sum(squares) / len(squares))
    with torch.no_grad():
        difference = centred.optimize(run, batch).total - plain.optimize(run, batch).total
    assert float(difference) == pytest.approx(expected, rel=1e-3)


def test_an_evaluation_gives_the_sums_of_a_calibration_table_and_training_none(base):
    chosen, run, batch = prepared(base, "reward_model")
    with torch.no_grad():
        assert not any(key.startswith("calibration/") for key in chosen.optimize(run, batch).metrics)
        run.train = False
        metrics = chosen.optimize(run, batch).metrics
    scores = last_scores(run, batch)
    sure = (scores[0::2] - scores[1::2]).abs().sigmoid()
    found = {key: sum(float(v) for k, v in metrics.items() if k.endswith(key)) for key in ("share", "predicted")}
    assert found == {"share": pytest.approx(len(sure)), "predicted": pytest.approx(float(sure.sum()), rel=1e-4)}


def test_settings_of_another_loss_are_refused():
    with pytest.raises(ValidationError, match="`ties` is for loss_type all_pairs"):
        toy.method("plackett_luce", ties="half")
    with pytest.raises(ValidationError, match="`margin` is for loss_type pairwise"):
        toy.method("all_pairs", margin=1.0)


def test_a_step_is_scored_after_its_end_and_learned_from_its_label(base):
    chosen, run, batch = prepared(base, "process_reward_model")
    model = run.models["reward"]
    total, right = 0.0, 0
    for i, record in enumerate(batch.records):
        labels = record.columns["labels"]
        ends = batch.acted[i].nonzero().flatten().tolist()
        assert len(ends) == len(labels)
        for end, label, step in zip(ends, labels, record.columns["completions"], strict=True):
            prefix = batch.tokens[i : i + 1, : end + 1]
            assert run.tokenizer.decode(prefix[0]).endswith(f"{step}\n")
            with torch.no_grad():
                score = model(input_ids=prefix).logits[0, 0]
            total += float(F.binary_cross_entropy_with_logits(score, torch.tensor(float(label))))
            right += int((score > 0) == label)
    with torch.no_grad():
        loss = chosen.optimize(run, batch)
    assert float(loss.total) == pytest.approx(total, rel=1e-4)
    assert float(loss.metrics["accuracy"]) == right
    assert float(loss.metrics["right_steps"]) == sum(sum(r.columns["labels"]) for r in batch.records)
