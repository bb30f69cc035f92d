"""A real server: `transformers serve` on loopback with a model that this test writes, behind a proxy with faults."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from chat_server import forward, serving
from toy import base_model

from alignlab.data import DEFAULT_TEMPLATE
from alignlab.models import load_model, load_tokenizer, save_model
from alignlab.rewards.judges import JudgeContext, LocalJudgeRule, Question

PROMPTS = {"source": "world", "kind": "prompts", "num_prompts": 60, "num_rows": 60}
TEMPLATE = "{prompt}\nA: {first}\nB: {second}\nWhich?"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that says one letter and ends: trained for a moment to say A to short questions, and B to long ones."""
    directory = base_model(tmp_path_factory.mktemp("serve") / "model")
    tokenizer = load_tokenizer(str(directory))
    tokenizer.chat_template = DEFAULT_TEMPLATE
    lm = load_model(str(directory), "lm", dtype=torch.float32, device=torch.device("cpu"))
    texts = ["Hello?\nA: x\nB: y\nWhich?", "Where is it? " * 4 + "\nA: It is here.\nB: No.\nWhich?"]
    said = [("A", texts[0]), ("B", texts[1])]
    rows = []
    for letter, text in said:
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": letter}]
        rows.append(tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False).input_ids)
    optimizer = torch.optim.AdamW(lm.parameters(), 3e-3)
    for _ in range(40):
        for row in rows:
            logits = lm(input_ids=torch.tensor([row])).logits[0, :-1]
            torch.nn.functional.cross_entropy(logits[-2:], torch.tensor(row[-2:])).backward()
        optimizer.step()
        optimizer.zero_grad()
    save_model(lm, tokenizer, directory)
    return directory


@pytest.fixture(scope="module")
def upstream(model):
    """Start the server, wait until it is healthy, and stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    log = (model.parent / "serve.log").open("w")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=log, stderr=log, env=environment)
    try:
        for _ in range(600):
            assert process.poll() is None, (model.parent / "serve.log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.fixture
def template(tmp_path):
    (tmp_path / "compare.txt").write_text(TEMPLATE)
    return str(tmp_path / "compare.txt")


def judged(url, model, template, **settings):
    server = {"base_url": url, "model": str(model), "timeout": 30.0, "backoff": 0.01, "concurrency": 4, "max_tokens": 2}
    judge = {"use": "openai", "template": template, **server, **settings}
    return {"source": "ai_feedback", "prompts": PROMPTS, "judge": judge, "num_prompts": 8, "max_new_tokens": 4,
            "orders_agree": False}  # fmt: skip


def test_a_labelling_run_against_a_real_server_with_faults_says_what_the_model_itself_says(
    run, made, model, upstream, template, capsys
):
    with serving(
        forward(upstream), ["ok", "500", "cut", "ok", "429", "garbage", "empty"], models=[str(model)]
    ) as proxy:
        run(judged(proxy.url, model, template))
        assert set(proxy.answered.values()) == {1}
        num = proxy.answered.total()
        run(judged(proxy.url, model, template))
        assert proxy.answered.total() == num  # nothing is paid twice
    rows = made("judgements.jsonl")
    questions = [Question(row["prompt"], row["first"], row["second"]) for row in rows]
    swapped = [q.swapped if row["order"] == "second-first" else q for q, row in zip(questions, rows, strict=True)]
    local = LocalJudgeRule(path=str(model), template=template).load(JudgeContext())(swapped)
    assert len(rows) == num and all(row["probability"] is not None for row in rows)
    assert [row["probability"] for row in rows] == [float(verdict.probability > 0.5) for verdict in local]
    assert all(verdict.facts["sure"] > 0.5 for verdict in local)
    assert all(row["reply"].strip() in ("A", "B") and row["prompt_tokens"] > 10 for row in rows)


def test_the_critique_loop_runs_against_a_real_server(run, made, model, upstream):
    server = {"base_url": upstream, "model": str(model), "timeout": 30.0}
    writer = {"use": "openai", "server": server, "max_new_tokens": 4, "temperature": 0.0}
    data = {"source": "critique_revision", "prompts": PROMPTS, "num_prompts": 3, "max_new_tokens": 4, "writer": writer}
    assert run(data, "sft", microbatch_tokens=4096) == 0
    about = made("about.json")
    assert about["revised"] == 3 and about["reply_tokens"] > 0
    assert all(chain["rounds"][0]["critique"] for chain in made("revisions.jsonl"))


def test_a_model_that_a_real_server_does_not_have_is_said(run, upstream, template, capsys):
    assert run(judged(upstream, "another", template)) == 2
    assert "the server does not know the model 'another'" in capsys.readouterr().err
