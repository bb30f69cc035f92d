import json

import pytest

from alignlab.errors import RecipeError
from alignlab.rewards.judges import load_constitution


def write(tmp_path, text, name="c.yaml"):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return str(path)


def test_a_principle_has_its_questions_weight_and_tags(tmp_path):
    text = """
principles:
  - {name: honest, question: "Which is more honest?", critique: "Name lies in {answer}.", revision: Take them out.,
     weight: 2, tags: [truth]}
  - Which answer is kinder?
"""
    honest, kind = load_constitution(write(tmp_path, text)).principles
    assert (honest.name, honest.question, honest.weight, honest.tags) == (
        "honest",
        "Which is more honest?",
        2.0,
        ("truth",),
    )
    assert (honest.critique, honest.revision) == ("Name lies in {answer}.", "Take them out.")
    assert (kind.name, kind.question, kind.weight) == ("2", "Which answer is kinder?", 1.0)


@pytest.mark.parametrize(
    ("values", "question", "critique"),
    [
        ({"prompt": "Which?", "critique_request": "C", "revision_request": "R"}, "Which?", "C"),
        ({"prompt": "Say what is wrong.", "edit_request": "R"}, "Which answer is better?", "Say what is wrong."),
        ({"critique_request": "C", "edit_request": "R"}, "Which answer is better?", "C"),
    ],
)
def test_published_layouts_are_read(tmp_path, values, question, critique):
    (found,) = load_constitution(write(tmp_path, {"harmful0": values}, "c.json")).principles
    assert (found.name, found.question, found.critique, found.revision) == ("harmful0", question, critique, "R")


BAD = {
    "the constitution has no principles": "principles: []",
    "the constitution has no principles ": "",
    "a constitution is no str": "just text",
    "the constitution is not YAML": "principles: [",
    r"there is no place \{response\} here": {"a": {"critique": "Criticise {response}.", "revision": "R"}},
    "did you mean 'answer'": {"a": {"critique": "Criticise {answr}.", "revision": "R"}},
    "a principle has no 'wieght'": {"a": {"question": "Q", "wieght": 2}},
    "did you mean 'weight'": {"a": {"question": "Q", "wieght": 2}},
    "the principle asks for nothing": {"a": {"tags": ["x"]}},
    "has `critique` and no `revision`": {"a": {"critique": "C"}},
    "`weight` is -1, wanted a number above 0": {"a": {"question": "Q", "weight": -1}},
    "`question` is a dict, wanted text": {"a": {"question": {}}},
    "says `question` a second time": {"a": {"question": "Q", "comparison": "Q"}},
    "two principles are called 'x'": {"principles": [{"name": "x", "question": "Q"}, {"name": "x", "question": "P"}]},
    "a constitution has no 'princples'": {"principles": ["Q"], "princples": []},
    "this is no worked example": {"principles": ["Q"], "examples": [{"prompt": "p"}]},
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_said_with_its_place(tmp_path, message):
    path = write(tmp_path, BAD[message])
    with pytest.raises(RecipeError, match=message.strip()) as caught:
        load_constitution(path)
    assert path in str(caught.value)


def test_all_wrong_principles_are_listed_together(tmp_path):
    path = write(tmp_path, {"a": {"question": "{x}"}, "b": {"question": "{y}"}})
    with pytest.raises(RecipeError) as caught:
        load_constitution(path)
    assert "{x}" in str(caught.value) and "{y}" in str(caught.value)


def test_a_tag_that_no_principle_has_is_an_error_with_those_that_there_are(tmp_path):
    found = load_constitution(write(tmp_path, {"a": {"question": "Q", "tags": ["honesty"]}}))
    assert found.tagged(("honesty",), "here").principles == found.principles
    with pytest.raises(RecipeError, match="did you mean 'honesty'"):
        found.tagged(("honest",), "here")


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RecipeError, match="No such file"):
        load_constitution(str(tmp_path / "none.yaml"))
    with pytest.raises(RecipeError, match="No module named 'no_package'"):
        load_constitution("no_package:c.yaml")
