"""AI feedback end to end, with a judge that can be computed by hand."""

import json

import pytest
import yaml

from alignlab.cli import main
from alignlab_rlaif.feedback import drawn

PROMPTS = {"source": "world", "kind": "prompts", "num_prompts": 60, "num_rows": 60, "eval": 0.2}
CALLS = []


def longer(prompts, firsts, seconds):
    """Surer, the more the lengths differ; 0.5 for a tie."""
    CALLS.extend(zip(firsts, seconds, strict=True))
    return [len(a) / (len(a) + len(b)) for a, b in zip(firsts, seconds, strict=True)]


def first_always(prompts, firsts, seconds):
    return [0.9] * len(firsts)


def tied(prompts, firsts, seconds):
    return [0.5] * len(firsts)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(__import__("pathlib").Path(__file__).parent))
    CALLS.clear()


def judged(name="longer", **settings):
    return {"source": "ai_feedback", "prompts": PROMPTS, "judge": {"use": f"test_ai_feedback:{name}"},
            "num_prompts": 12, "max_new_tokens": 8, **settings}  # fmt: skip


def calls():
    import test_ai_feedback

    return test_ai_feedback.CALLS


def test_pairs_are_labelled_with_the_judges_probability_and_trained_on(run, made, capsys):
    calls().clear()
    assert run(judged(num_answers=3)) == 0
    rows, about = made("rows.jsonl"), made("about.json")
    for row in rows:
        chosen, rejected = (row[name][0]["content"] for name in ("chosen", "rejected"))
        assert row["probability"] == pytest.approx(len(chosen) / (len(chosen) + len(rejected)))
        assert row["probability"] > 0.5 and row["prompt"][-1]["role"] == "user"
    dropped = {
        name: about[f"dropped_{name}"] for name in ("empty", "equal", "unread", "orders_disagree", "small_margin")
    }
    assert len(rows) + sum(dropped.values()) == 12 * 3  # every two of three answers
    assert about["pairs"] == 36 - dropped["empty"] - dropped["equal"]
    assert len(calls()) <= 2 * about["pairs"] and about["position_bias"] == pytest.approx(0)
    assert len(made("judgements.jsonl")) == 2 * about["pairs"]
    assert "ai_feedback makes its rows" in capsys.readouterr().out


def test_so_many_pairs_of_each_prompt_are_drawn_from_all(run, made):
    assert run(judged(num_answers=5, num_pairs=3)) == 0
    about = made("about.json")
    assert about["pairs"] == 12 * 3 - about["dropped_empty"] - about["dropped_equal"]
    asked = {(said["first"], said["second"]) for said in made("judgements.jsonl")}
    assert len(asked) > 2 * 12  # other pairs of each prompt


def test_pairs_are_drawn_without_repetition_and_by_the_seed():
    every = [(str(i), str(j)) for i in range(9) for j in range(i)]
    found = drawn(every, 12, "0 1")
    assert len(set(found)) == 12 and set(found) < set(every)
    assert found == drawn(every, 12, "0 1") != drawn(every, 12, "0 2")
    assert drawn(every, None, "0 1") == drawn(every, 36, "0 1") == drawn(every, 99, "0 1") == every


def test_rows_are_made_once_and_again_when_what_they_are_made_of_changed(run, tmp_path):
    calls().clear()
    assert run(judged()) == 0
    num = len(calls())
    assert run(judged()) == 0
    assert len(calls()) == num
    assert run(judged(min_margin=0.05)) == 0
    assert len(list((tmp_path / "run" / "data").iterdir())) == 2


def test_a_small_margin_drops_pairs_and_counts_them(run, made):
    assert run(judged(min_margin=0.1)) == 0
    assert all(row["probability"] >= 0.6 for row in made("rows.jsonl"))
    assert made("about.json")["dropped_small_margin"] > 0


def test_pairs_whose_orders_disagree_are_dropped_and_a_judge_of_one_place_is_warned_of(run, made, capsys):
    assert run(judged("first_always", num_prompts=30)) == 2
    said = capsys.readouterr()
    assert "orders disagree" in said.out and "position bias +1.00" in said.out
    assert "pairs tied, so there is nothing to learn" in said.err


def test_all_pairs_tied_ends_the_run(run, capsys):
    assert run(judged("tied")) == 2
    assert "pairs tied, so there is nothing to learn" in capsys.readouterr().err


def test_what_is_held_out_of_the_prompts_is_not_answered(run, made):
    assert run(judged(num_prompts=None)) == 0
    assert len({str(row["prompt"]) for row in made("judgements.jsonl")}) <= 48


@pytest.fixture
def long_prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    texts = ["short one", *(f"Prompt {i} " + "and on it goes " * 12 * i for i in range(1, 8))]
    path.write_text("\n".join(json.dumps({"prompt": text}) for text in texts))
    return {"source": "prompts", "path": str(path), "max_length": 64}


def test_overlong_prompts_are_an_error_or_dropped_or_cut_where_they_are_answered(run, made, long_prompts, capsys):
    assert run(judged(prompts=long_prompts, num_answers=3)) == 2
    said = capsys.readouterr().err
    assert "of 8 prompts are over 64 tokens; the longest has" in said and "overlong: drop" in said
    cut = {**long_prompts, "overlong": "truncate_left"}
    assert run({**judged(prompts=cut, num_answers=3), "overlong": "truncate_left"}) == 0
    about = made("about.json")
    assert 3 <= about["overlong_prompts"] < 8 and about["pairs"] > 3 * (8 - about["overlong_prompts"])
    assert "their start is cut off where they are answered" in capsys.readouterr().out


def test_overlong_prompts_that_are_dropped_are_counted(run, made, long_prompts, capsys):
    assert run(judged(prompts={**long_prompts, "overlong": "drop"}, num_answers=4)) == 0
    about = made("about.json")
    assert len({json.dumps(row["prompt"]) for row in made("rows.jsonl")}) <= 8 - about["overlong_prompts"]
    assert "dropped (`overlong: drop`)" in capsys.readouterr().out


def test_a_judge_scores_answers_for_ppo(run, tmp_path):
    prompts = {"source": "world", "kind": "prompts", "num_rows": 8}
    reward = [{"use": "judge", "judge": {"use": "test_ai_feedback:longer"}, "against": "others"}]
    assert run(prompts, "ppo", reward=reward, max_new_tokens=6, num_samples=2) == 0
    metrics = (tmp_path / "run" / "made" / "metrics.jsonl").read_text()
    assert '"reward/judge": 0.5' in metrics  # of two answers that are compared with each other, one wins what one loses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judge": {"use": "locl", "path": "x"}}, "there is no judge 'locl'"),
        ({"judge": {"use": "local", "path": "x", "templat": "y"}}, "there is no setting 'templat'"),
        ({"judge": {"use": "local"}}, "wants exactly one of `from`"),
        ({"judge": {"use": "local", "from": "nobody"}}, "there is no phase 'nobody' before this"),
        ({"from": "nobody"}, "there is no phase 'nobody' before this"),
        ({"judge": {"use": "openai", "model": "m", "base_url": "localhost"}}, "wants an address such as"),
        ({"judge": {"use": "openai", "model": "m"}}, "the environment variable OPENAI_API_KEY is not set"),
        ({"judge": {"use": "no_module:f"}}, "cannot import the judge 'no_module:f'"),
        ({"constitution": "none.yaml"}, "the file cannot be read: No such file"),
        ({"constitution": "bad.yaml"}, r"there is no place {respnse} here"),
        ({"constitution": "empty.yaml"}, "the constitution has no principles"),
        ({"prompts": {"source": "world", "kind": "prompt"}}, "did you mean 'prompts'"),
        ({"num_answers": 1}, "a number of at least 2"),
    ],
)  # fmt: skip
def test_bad_settings_are_said_with_their_line_before_anything_runs(
    run, capsys, tmp_path, monkeypatch, change, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "bad.yaml").write_text('principles: [{critique: "{respnse}", revision: R}]')
    (tmp_path / "empty.yaml").write_text("principles: []")
    for command in ("check", "run"):
        assert run(judged(**change), command=(command,)) == 2
        said = capsys.readouterr().err
        assert message in said
    assert not (tmp_path / "run" / "data").exists()


@pytest.mark.parametrize(("use", "method"), [("local", "reward_model"), ("reward_model", "sft")])
def test_a_judge_that_is_a_phase_of_the_wrong_kind_is_said_before_anything_is_trained(
    use, method, base, tmp_path, capsys
):
    world = {"source": "world", "kind": "preferences" if method == "reward_model" else "demonstrations"}
    optimizer = {"steps": 1, "batch_size": 4}
    data = judged() | {"judge": {"use": use, "from": "first"}}
    phases = [
        {"name": "first", "data": world, "optimizer": {"method": method, **optimizer}},
        {"name": "made", "data": data, "optimizer": {"method": "dpo", **optimizer}},
    ]
    recipe = {"output": str(tmp_path / "run"), "model": {"path": str(base), "device": "cpu"}, "phases": phases}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(tmp_path / "recipe.yaml")]) == 2
    assert f"judge '{use}' cannot be phase 'first', which makes" in capsys.readouterr().err
