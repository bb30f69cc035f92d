"""Samples on disk: what the model says, or how it scores, at every evaluation (PEERS.md: people want to look)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from alignlab.engine.files import append_jsonl
from alignlab.engine.roles import exported_role
from alignlab.generate import Sampling
from alignlab.rewards import texts

if TYPE_CHECKING:
    from alignlab.engine.phase import Phase


def write_samples(phase: Phase, step: int) -> None:
    """Append answers to the first held-out prompts to samples.jsonl; for a reward model, its scores of rows there."""
    role = exported_role(phase.method.roles)
    records = (phase.split.eval or phase.split.train)[: phase.settings.log_samples]
    path = phase.directory / "samples.jsonl"
    phase.run.begin(0, train=False)
    if phase.method.roles[role].head == "lm":
        records = [r for r in records if "prompt" in r.samples and len(r.samples["prompt"])]
        if not records:
            return
        known = {name: getattr(phase.method, name) for name in Sampling.model_fields if hasattr(phase.method, name)}
        batch = phase.run.generate(role, records, **{**known, "num_samples": 1})
        prompts, completions = texts(phase.run, batch)
        for i, record in enumerate(records):
            row = {"step": step, "where": record.where, "prompt": prompts[i], "completion": completions[i]}
            append_jsonl(path, {**row, "finished": bool(batch.finished[i])})
    elif records:
        with torch.no_grad():
            pairs = phase.method.data(phase.run, records).to(phase.run.device)
            scores = phase.run.sequence_score(role, pairs).tolist()
            steps = phase.run.value(role, pairs).roll(-1, 1).sigmoid() if phase.method.rows == "steps" else None
        for i, score in enumerate(scores):
            text = phase.run.tokenizer.decode(pairs.tokens[i][pairs.valid[i]])
            found = {"score": score} if steps is None else {"steps": steps[i][pairs.acted[i]].tolist()}
            append_jsonl(path, {"step": step, "where": pairs.records[i].where, "text": text, **found})
