"""What the tracker writes, of a real run and of one that was killed."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from alignlab_sqlite import SQLite

RECIPE = Path(__file__).parents[1] / "recipe.yaml"


def read(output, query):
    with closing(sqlite3.connect(output / "metrics.sqlite")) as connection:
        return connection.execute(query).fetchall()


def test_it_holds_the_numbers_of_the_run(run_recipe, tmp_path):
    output = run_recipe(RECIPE.read_text(), f"output={tmp_path / 'run'}")
    steps = [json.loads(line) for line in (output / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert dict(read(output, "SELECT step, value FROM metrics WHERE phase = 'sft' AND name = 'loss'")) == {
        step["step"]: step["loss"] for step in steps
    }
    ((manifest,),) = read(output, "SELECT manifest FROM starts")
    assert json.loads(manifest)["seed"] == 0


def test_steps_that_a_kill_makes_the_run_do_again_stand_there_once(tmp_path):
    for losses in ({1: 4.0, 2: 3.0, 3: 2.0}, {2: 3.5}):  # killed after step 3, and goes on after a checkpoint of step 1
        tracker = SQLite()
        tracker.start(tmp_path, {"seed": 0})
        for step, loss in losses.items():
            tracker.log("sft", step, {"loss": loss, "lr": 0.1})
        tracker.finish()
    assert read(tmp_path, "SELECT step, value FROM metrics WHERE name = 'loss' ORDER BY step") == [(1, 4.0), (2, 3.5)]
    assert read(tmp_path, "SELECT count(*) FROM starts") == [(2,)]


def test_phases_are_kept_apart(tmp_path):
    tracker = SQLite()
    tracker.start(tmp_path, {})
    for phase, loss in (("sft", 1.0), ("dpo", 2.0)):
        tracker.log(phase, 1, {"loss": loss})
    tracker.finish()
    assert read(tmp_path, "SELECT phase, value FROM metrics ORDER BY phase") == [("dpo", 2.0), ("sft", 1.0)]
