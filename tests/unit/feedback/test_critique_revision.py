"""Critique and revision, by a server whose replies can be told apart."""

import json
import tempfile
from itertools import pairwise

import pytest
from chat_server import reply, serving

from alignlab.rewards.judges import load_constitution

PROMPTS = {"source": "world", "kind": "prompts", "num_prompts": 60, "num_rows": 60, "eval": 0.2}
CONSTITUTION = {
    "principles": [
        {"name": "kind", "critique": "Is {answer} kind?", "revision": "Make it kind."},
        {"name": "short", "critique": "Is it short?", "revision": "Shorten it, for {prompt}.", "weight": 3},
        {"name": "compared only", "question": "Which is better?"},
    ],
    "examples": [{"prompt": "Hi.", "answer": "Go.", "critique": "Rude.", "revision": "Hello."}],
}


def writes(body):
    """Name what was asked, and how many turns there were."""
    last = body["messages"][-1]["content"]
    asked = "revision" if "Make it" in last or "Shorten" in last else "critique"
    return reply(f"{asked} {len(body['messages'])}")


@pytest.fixture
def constitution(tmp_path):
    path = tmp_path / "constitution.json"
    path.write_text(json.dumps(CONSTITUTION))
    return str(path)


def revised(server, constitution, **settings):
    at = {"model": "m", "base_url": server.url, "backoff": 0.01, "timeout": 1.0}
    writer = {"use": "openai", "server": at}
    return {"source": "critique_revision", "prompts": PROMPTS, "num_prompts": 6, "max_new_tokens": 6,
            "constitution": constitution, "writer": writer, **settings}  # fmt: skip


def test_answers_are_criticised_and_revised_in_rounds_and_the_last_revision_is_learned(run, made, constitution):
    with serving(writes) as server:
        assert run(revised(server, constitution, rounds=2), "sft") == 0
        asked = [json.loads(messages) for messages in server.answered]
    for chain in made("revisions.jsonl"):
        first, second = chain["rounds"]
        assert [first["principles"], second["principles"]] != [["compared only"], ["compared only"]]
        size = len(chain["prompt"]) + 2  # the prompt, the answer, the request
        assert (first["critique"], first["revision"]) == (f"critique {size}", f"revision {size + 2}")
        assert second["revision"] == f"revision {size + 2}"
    assert [row["completion"][0]["content"] for row in made("rows.jsonl")] == [
        chain["rounds"][-1]["revision"] for chain in made("revisions.jsonl")
    ]
    for messages in asked:
        roles = [turn["role"] for turn in messages]
        assert roles[-1] == "user" and all(a != b for a, b in pairwise(roles))
    assert made("about.json")["reply_tokens"] == 6 * 2 * 2 - (24 - len(asked))


def test_requests_name_the_prompt_and_the_answer_and_examples_stand_before(run, constitution):
    with serving(writes) as server:
        assert run(revised(server, constitution, num_examples=1), "sft") == 0
        asked = [json.loads(messages) for messages in server.answered]
    for messages in asked:
        assert [turn["content"] for turn in messages[:2]] == ["Hi.", "Go."]
        assert [messages[i]["content"] for i in (3, 5)] == ["Rude.", "Hello."]
        last = messages[-1]["content"]
        if last.startswith("Is ") and "kind" in last:
            assert last == f"Is {messages[-2]['content']} kind?"
        if last.startswith("Shorten"):
            assert messages[-5]["content"] in last


def test_a_server_that_fails_on_the_way_loses_no_critique_and_none_is_paid_twice(run, made, constitution, capsys):
    with serving(writes, ["ok"] * 4 + ["500"] * 100) as server:
        assert run(revised(server, constitution, rounds=2) | {"writer": {"use": "openai", "server": {
            "model": "m", "base_url": server.url, "backoff": 0.01, "retries": 1}}}, "sft") == 2  # fmt: skip
        assert "no reply after 2 tries" in capsys.readouterr().err
        server.faults = ["cut", "429", "garbage", "empty", "500"]
        assert run(revised(server, constitution, rounds=2), "sft") == 0
        assert set(server.answered.values()) <= {1, 2}
        assert server.answered.total() <= 24
    assert len(made("revisions.jsonl")) == 6


def test_the_policy_itself_revises_if_nobody_else_is_named(run, made, constitution):
    data = {"source": "critique_revision", "prompts": PROMPTS, "num_prompts": 6, "max_new_tokens": 6,
            "constitution": constitution}  # fmt: skip
    assert run(data, "sft") == 0
    chains = made("revisions.jsonl")
    assert len(chains) == 6 and all(len(chain["rounds"]) == 1 for chain in chains)


def test_the_constitution_that_ships_is_complete():
    found = load_constitution("alignlab_cai:constitution.yaml")
    assert len(found.principles) >= 5 and len(found.examples) >= 2
    assert all(p.critique and p.revision and p.question and p.tags for p in found.principles)
    assert {tag for p in found.principles for tag in p.tags} == {"harmless", "honest", "helpful"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"principles": [{"question": "Q"}]}, "names a constitution without a `critique` and a `revision`"),
        ({"principles": []}, "the constitution has no principles"),
        ({"principles": [{"critique": "{reply}", "revision": "R"}]}, "there is no place {reply} here"),
    ],
)
def test_check_validates_a_constitution(run, capsys, values, message):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        data = {"source": "critique_revision", "prompts": PROMPTS, "constitution": file.name}
        assert run(data, "sft", command=("check",)) == 2
    assert message in capsys.readouterr().err
