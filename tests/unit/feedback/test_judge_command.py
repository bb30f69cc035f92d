"""`alignlab judge`: agreement with labels that are known, from a file and from a recipe."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from alignlab.cli import main
from alignlab.engine.agreement import measure
from alignlab.engine.intervals import wilson

HERE = "test_judge_command"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def likes_x(prompts, firsts, seconds):
    return [0.9 if "x" in first and "x" not in second else 0.1 if "x" in second else 0.5
            for first, second in zip(firsts, seconds, strict=True)]  # fmt: skip


def by_length(prompts, completions, completion_ids):
    return [len(completion) for completion in completions]


@pytest.fixture
def rows(tmp_path):
    """Ten pairs: x is chosen in seven, rejected in two, and in neither answer of one."""
    answers = [("x", "y")] * 7 + [("y", "x")] * 2 + [("z", "y")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(
        json.dumps({"prompt": f"p{i}", "chosen": chosen, "rejected": f"{rejected}{rejected}"}) + "\n"
        for i, (chosen, rejected) in enumerate(answers)
    ))  # fmt: skip
    return str(path)


def test_a_judge_is_measured_against_the_labels_of_a_file(rows, tmp_path, capsys):
    output = tmp_path / "report"
    assert main(["judge", rows, "--judge", f"{{use: '{HERE}:likes_x'}}", "--output", str(output)]) == 0
    found = json.loads((output / "agreement.json").read_text())
    assert found["num"] == 10 and found["accuracy"] == pytest.approx([0.75, *wilson(0.75, 10)])
    assert found["position_bias"][0] == 0 and found["tally"]["ties"] == 1
    (sure,) = [one for one in found["calibration"]["bins"] if one["predicted"] > 0.8]
    assert (sure["predicted"], sure["observed"]) == pytest.approx((0.9, 7 / 9))
    said = capsys.readouterr().out
    assert "accuracy 0.750 [0.4" in said and "20 verdicts" in said
    assert len((output / "judgements.jsonl").read_text().splitlines()) == 20
    root = ElementTree.fromstring((output / "agreement.svg").read_text())
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 2 + 1  # two bins, and all pairs


def test_the_truth_can_be_a_reward_instead_of_the_labels(rows, tmp_path):
    judge = f"{{use: '{HERE}:likes_x'}}"
    arguments = ["--judge", judge, "--truth", f"{HERE}:by_length", "--output", str(tmp_path / "report")]
    assert main(["judge", rows, *arguments]) == 0
    found = json.loads((tmp_path / "report" / "agreement.json").read_text())
    assert found["accuracy"][0] == pytest.approx((2 + 0.5) / 10)  # the rejected answer is the longer one, always


def test_each_principle_is_reported(rows, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("principles: {kind: {question: 'Kinder?'}, short: {question: 'Shorter?'}}")
    arguments = ["--judge", f"{{use: '{HERE}:likes_x'}}", "--constitution", str(tmp_path / "c.yaml")]
    assert main(["judge", rows, *arguments, "--output", str(tmp_path / "report"), "--limit", "5"]) == 0
    found = json.loads((tmp_path / "report" / "agreement.json").read_text())
    assert {name: values[3] for name, values in found["by_principle"].items()} == {"kind": 5, "short": 5}
    assert "kind: accuracy 1.000" in capsys.readouterr().out


def test_a_recipe_is_judged_by_its_own_judge_on_its_held_out_rows(rows, tmp_path, base, capsys):
    phase = {
        "name": "made",
        "data": {
            "source": "ai_feedback",
            "prompts": {"source": "rows", "path": rows},
            "judge": {"use": f"{HERE}:likes_x"},
        },
        "optimizer": {"method": "dpo", "steps": 1},
    }  # fmt: skip
    recipe = {"output": str(tmp_path / "run"), "model": {"path": str(base), "device": "cpu"}, "phases": [phase]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    data = f"{{source: rows, path: '{rows}', eval: 0.5}}"
    assert main(["judge", str(tmp_path / "recipe.yaml"), "--data", data]) == 0
    assert json.loads((tmp_path / "run" / "judge" / "agreement.json").read_text())["num"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no judge"),
        (["--judge", "local"], "this is no mapping"),
        (["--judge", "{use: ["], "this is no YAML"),
        (["--judge", "{use: locl}"], "there is no judge 'locl'"),
        (["--judge", "{use: local, from: sft}"], "there is no run here with a phase 'sft'"),
        (["--judge", "{use: local}"], "wants exactly one of `from`"),
        (["--judge", "{use: openai, model: m}"], "the environment variable OPENAI_API_KEY is not set"),
        (["--judge", "{use: 'test_judge_command:likes_x'}", "--data", "{source: nothing}"], "no data source 'nothing'"),
    ],
)
def test_what_cannot_be_asked_is_said(rows, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(["judge", rows, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_ties_and_unread_verdicts_are_counted_apart():
    found = measure([0.9, 0.5, None, 0.9, 0.2], [1.0, 0.0, 1.0, 0.5, 1.0])
    assert (found.num, found.unread, found.unknown) == (3, 1, 1)
    assert found.accuracy[0] == pytest.approx(1.5 / 3)
    assert "1 pairs tied by their labels, 1 without a verdict" in "\n".join(found.lines())


def test_position_bias_has_an_interval():
    found = measure([0.5], [1.0], said_first=(15.0, 20))
    assert found.position_bias == pytest.approx((0.5, *(2 * x - 1 for x in wilson(0.75, 20))))
