"""The demos of RLAIF and constitutional AI, made small: every part of them runs, up to the report."""

import json

import pytest

from alignlab.cli import main

SMALL = ["model.new.hidden_size=32", "model.new.num_layers=1", "report.num_prompts=4", "report.max_new_tokens=6"]
FEW = ["optimizer.steps=2", "optimizer.batch_size=4", "optimizer.log_samples=0", "optimizer.eval_limit=4"]
METHODS = {
    "rlaif": {
        "sft": ["data.num_rows=80"],
        "judge": ["data.num_rows=80"],
        "rlaif": ["data.num_prompts=16", "data.max_new_tokens=6", "data.min_margin=0", "data.orders_agree=false"],
    },
    "cai": {
        "sft": [f"data.{i}.num_rows=40" for i in range(3)],
        "judge": ["data.num_rows=80"],
        "revised": ["data.num_prompts=8", "data.max_new_tokens=6"],
        "cai": ["data.num_prompts=16", "data.max_new_tokens=6", "data.min_margin=0", "data.orders_agree=false"],
    },
}


@pytest.mark.parametrize("method", METHODS)
def test_a_demo_runs_from_its_first_phase_to_its_report(method, tmp_path, capsys):
    changes = [*SMALL, *(f"phases.{name}.{key}" for name, own in METHODS[method].items() for key in (*own, *FEW))]
    sets = [word for change in changes for word in ("--set", change)]
    assert main(["demo", "--method", method, "--output", str(tmp_path / "run"), *sets]) == 0
    said = capsys.readouterr().out
    assert f"AI labels of {method}: agree with the true reward on" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    about = report["feedback"][method]
    assert about["agreement"]["num"] + about["agreement"]["unknown"] == about["rows"]
    assert set(report["policies"]) == {"rlaif": {"sft", "rlaif"}, "cai": {"sft", "revised", "cai"}}[method]
    if method == "cai":
        assert report["feedback"]["revised"]["revised"] == 8 and report["feedback"]["revised"]["rounds"] == 2
