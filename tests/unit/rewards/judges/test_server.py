"""The openai judge against a server that goes wrong in every way: nothing lost, nothing paid twice, a clear end."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chat_server import ChatServer, reply, serving

from alignlab.errors import RewardError
from alignlab.rewards.judges import Asked, JudgeContext, Pair, Panel, Question, ServerJudgeRule, Store
from alignlab.rewards.judges.client import Reply
from alignlab.rewards.judges.server import read_logprobs, read_text

LETTERS = {"A": 1.0, "B": 0.0}


def longer(body):
    """Prefer the longer answer, surely."""
    text = body["messages"][0]["content"]
    first, second = re.search(r"\[Answer A\]\n(.*?)\n\n\[Answer B\]\n(.*?)\n\n", text, re.DOTALL).groups()
    return reply("A" if len(first) > len(second) else "B")


def pairs(num):
    return [Pair(f"question {i}", "x" * (i + 1), "y" * (num - i), f"row {i}") for i in range(num)]


def panel(server: ChatServer, store=None, kept=None, **settings):
    given = {"concurrency": 4, "timeout": 1.0, "backoff": 0.01, "retries": 8, **settings}
    rule = ServerJudgeRule(model=given.pop("model", "m"), base_url=server.url, **given)
    path = None if store is None else Path(store)
    return Panel([Asked("openai", rule.load(JudgeContext()), Store(path))], kept=kept)


def compare(panel, given):
    try:
        return [judgement.probability for judgement in panel.compare(given)]
    finally:
        panel.close()


@pytest.mark.parametrize("fault", ["stall", "cut", "429", "500", "garbage", "empty"])
def test_a_question_that_a_fault_met_is_asked_again_and_no_other(fault):
    given = pairs(5)
    with serving(longer, ["ok", fault, "ok", fault]) as server:
        asked = panel(server)
        assert compare(asked, given) == [
            float(len(p.first) > len(p.second)) or 0.5 * (len(p.first) == len(p.second)) for p in given
        ]
        assert server.num_requests == 12
        assert set(server.answered.values()) == {1}
        assert asked.tally.facts["retries"] == 2


def test_all_faults_together_lose_nothing_and_pay_nothing_twice(tmp_path):
    faults = ["429", "cut", "500", "garbage", "empty", "stall", "ok", "cut", "429", "empty", "500"]
    with serving(longer, faults) as server:
        found = compare(panel(server, tmp_path / "s.sqlite", tmp_path / "judgements.jsonl"), pairs(12))
        assert [p > 0.5 for p in found] == [i + 1 > 12 - i for i in range(12)]
        assert len(server.answered) == 24 and set(server.answered.values()) == {1}
    rows = [json.loads(line) for line in (tmp_path / "judgements.jsonl").read_text().splitlines()]
    assert [(row["where"], row["order"]) for row in rows[:3]] == [
        ("row 0", "first-second"),
        ("row 0", "second-first"),
        ("row 1", "first-second"),
    ]
    assert all(row["reply"] in ("A", "B") and row["prompt_tokens"] == 20 for row in rows)


def test_a_run_that_a_dead_server_ended_goes_on_where_it_stopped(tmp_path):
    store = tmp_path / "s.sqlite"
    with serving(longer, ["ok"] * 7 + ["500"] * 1000) as server:
        with pytest.raises(RewardError, match=r"judge 'openai': no reply after 3 tries: .*Something broke"):
            compare(panel(server, store, retries=2, concurrency=1), pairs(8))
        assert server.answered.total() == 7
        server.faults = []
        found = compare(panel(server, store, concurrency=1), pairs(8))
        assert len(found) == 8 and None not in found
        assert server.answered.total() == 16 and set(server.answered.values()) == {1}
        compare(panel(server, store), pairs(8))
        assert server.answered.total() == 16


def test_after_a_429_nobody_asks_before_the_server_said():
    with serving(longer, ["429"]) as server:
        compare(panel(server, concurrency=1), pairs(2))
        assert server.at[1] - server.at[0] >= 0.3


def test_no_more_questions_are_under_way_than_allowed():
    running, most = [0], [0]

    def slow(body):
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1
        return longer(body)

    with serving(slow) as server:
        compare(panel(server, concurrency=3), pairs(10))
    assert most[0] == 3


def test_log_probs_of_the_answer_are_what_counts_where_the_server_gives_them():
    with serving(lambda body: reply("A", {"A": 0.5, " B": 0.1, "b": 0.3, "B": 0.1})) as server:
        asked = panel(server)
        (found,) = asked.compare([Pair("p", "x", "y")])
        asked.close()
    assert found.orders == pytest.approx((5 / 7, 2 / 7))
    assert found.probability == pytest.approx(0.5)
    assert asked.tally.facts["sure"] == pytest.approx(2 * 0.7)


def test_a_server_without_log_probs_is_asked_without_them_and_no_try_is_lost():
    with serving(longer, ["refuse logprobs are not supported by this model"]) as server:
        asked = panel(server, retries=0, concurrency=1)
        assert compare(asked, pairs(2)) == [0.0, 1.0]
        assert server.num_requests == 5


def test_replies_that_say_nothing_are_counted_and_have_no_part_in_the_mean():
    with serving(
        lambda body: reply("I like both." if "question 0" in body["messages"][0]["content"] else "B")
    ) as server:
        asked = panel(server)
        assert compare(asked, pairs(2)) == [None, 0.5]
    assert asked.tally.unread == 2
    assert list(asked.tally.warnings()) == ["2 of 4 replies could not be read (50.0%)"]


def test_a_judge_of_whose_replies_none_can_be_read_ends_the_run():
    with serving(lambda body: reply("Well.")) as server:
        asked = panel(server)
        compare(asked, pairs(2))
    with pytest.raises(RewardError, match="none of the 4 replies of the judge could be read"):
        asked.check_useful()


def test_tokens_and_cost_are_counted():
    with serving(longer) as server:
        asked = panel(server, price=(10.0, 30.0))
        compare(asked, pairs(3))
    assert asked.tally.facts["prompt_tokens"] == 120
    assert asked.tally.facts["cost"] == pytest.approx(6 * (20 * 10 + 1 * 30) / 1e6)


def test_without_a_key_the_hosted_server_is_not_asked(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(RewardError, match="the environment variable OPENAI_API_KEY is not set"):
        ServerJudgeRule(model="m").load(JudgeContext())


def test_the_key_comes_from_the_environment_and_is_in_no_error_and_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "secret-123")
    with serving(longer, ["ok", "401"]) as server:
        asked = panel(server, tmp_path / "s.sqlite", tmp_path / "j.jsonl", api_key_env="MY_KEY", concurrency=1)
        with pytest.raises(RewardError, match=r"does not take the key: .*\*\*\*") as caught:
            compare(asked, pairs(2))
        assert server.keys == {"Bearer secret-123"}
    assert "secret" not in str(caught.value) and "set MY_KEY to a key of it" in str(caught.value)
    assert all(b"secret" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_server_that_is_down_is_said_to_be():
    with serving(longer) as server:
        pass
    with pytest.raises(RewardError, match=r"no reply after 2 tries: Connection error") as caught:
        compare(panel(server, retries=1), pairs(1))
    assert server.url in str(caught.value) and "run again" in str(caught.value)


def test_a_model_that_the_server_does_not_know_is_named_with_the_nearest():
    with serving(longer, models=["judge-7b"]) as server:
        with pytest.raises(RewardError, match="does not know the model 'judge-7'") as caught:
            compare(panel(server, model="judge-7"), pairs(1))
        assert "did you mean 'judge-7b'?" in str(caught.value)
        assert server.num_requests <= 2  # one a worker: it is not asked again


def test_a_question_over_the_context_is_said_with_its_length():
    said = r"a question of \d+ characters is too long for the model"
    refused = ["refuse This model's maximum context length is 8 tokens."]
    with serving(longer, refused) as server, pytest.raises(RewardError, match=said):
        compare(panel(server, concurrency=1), pairs(1))


def test_an_address_with_a_password_is_refused():
    with pytest.raises(ValueError, match="holds a password"):
        ServerJudgeRule(model="m", base_url="http://me:secret@localhost/v1")


@pytest.mark.parametrize(
    ("text", "value"),
    [("A", 1.0), (" b.", 0.0), ("Answer: B", 0.0), ("(A)", 1.0), ("Both are fine. The better answer is B.", 0.0),
     ("A good answer would be short.", None), ("", None), ("Neither", None)],
)  # fmt: skip
def test_text_is_read_only_where_it_is_clear(text, value):
    assert read_text(text, LETTERS) == value


def test_with_reasons_first_the_last_letter_counts():
    top = [("A", {"A": -0.1}), (" so", {" so": -0.1}), (" B", {" B": -0.105, " A": -2.3})]
    value, sure = read_logprobs(Reply("A ... so B", top, 1, 3, 1, True), LETTERS)
    assert value == pytest.approx(0.1, abs=0.01) and sure == pytest.approx(1.0, abs=0.01)


def test_one_answer_is_rated_by_the_mean_of_its_digits():
    with serving(lambda body: reply("9", {"9": 0.5, "1": 0.5})) as server:
        asked = panel(server)
        assert asked.rate(["p"], ["x"]) == [pytest.approx(0.5)]
        asked.close()
    assert Question("p", "x").second is None


def test_after_a_kill_only_what_was_under_way_is_asked_again(tmp_path):
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[3])]!r}
from test_server import compare, pairs, panel
from types import SimpleNamespace
compare(panel(SimpleNamespace(url=sys.argv[1]), {str(tmp_path / "s.sqlite")!r}, concurrency=2), pairs(20))
"""

    def slow(body):
        time.sleep(0.05)
        return longer(body)

    with serving(slow) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url], stderr=subprocess.PIPE)
        while server.answered.total() < 12:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.kill()
        process.communicate()
        first = server.answered.total()
        assert first < 40
        assert len(compare(panel(server, tmp_path / "s.sqlite", concurrency=2), pairs(20))) == 20
        assert len(server.answered) == 40
        assert server.answered.total() - 40 <= 2  # what was under way, and no reply that had come
