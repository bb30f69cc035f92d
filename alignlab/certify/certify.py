"""Hold a trained method to what it promises."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab import builtin
from alignlab.certify.bench import Bench
from alignlab.certify.exact import (
    answer_logp,
    answer_scores,
    divergence,
    gain_share,
    kl_optimum,
    objective,
    probability_errors,
)
from alignlab.certify.request import Request, Resolved, resolve
from alignlab.engine.checkpoint import checkpoints, load_weights, read_progress
from alignlab.engine.roles import exported_role
from alignlab.method import Tabular
from alignlab.models import load_model, load_tokenizer
from alignlab.plugins import Plugins

BARS = {"share": 0.97, "probability_error": 0.02, "gap": 0.02}
"""What is asked: this share of the gain or more, and no more than this error of probabilities, and gap in nats."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Certificate:
    """What one method reached with one seed."""

    label: str
    seed: int
    hidden_size: int
    beta: float
    promise: str  # what it is held to; "" where it promises nothing
    why: str
    passed: bool | None  # None where it promises nothing
    curve: list[dict[str, float]]  # what was measured after each `step`; step 0 is what it started from
    seconds: float  # of the processor

    @property
    def reached(self) -> dict[str, float]:
        """What was measured at the end."""
        return self.curve[-1]


def certify(bench: Bench, request: Request, beta: float) -> Certificate:
    """Train a method in a bench that is prepared, and measure every checkpoint of it."""
    found = resolve(request, Plugins(builtin), bench.size.max_letters + 1, beta)
    began = time.process_time()
    directory = bench.train(found)
    measure = _measure(bench, found)
    role = exported_role(found.method.roles)
    head, start = found.method.roles[role].head, bench.start(found)
    model, tokenizer = load_model(str(start), head, dtype=torch.float64, device=CPU), load_tokenizer(str(start))
    curve = [{"step": 0, **measure(model, tokenizer)}]
    for path in checkpoints(directory / "checkpoints"):
        load_weights(path, {role: model})
        curve.append({"step": read_progress(path).step, **measure(model, tokenizer)})
    promised = found.optimum is not None
    return Certificate(
        label=request.label,
        seed=bench.size.seed,
        hidden_size=bench.hidden_size,
        beta=found.beta,
        promise=promise_of(found),
        why=found.optimum.why if found.optimum is not None else " ".join(found.method.warnings()),
        passed=_passes(curve[-1]) if promised else None,
        curve=curve,
        seconds=time.process_time() - began,
    )


def promise_of(found: Resolved) -> str:
    """Return the name of what a method is held to."""
    if found.optimum is None:
        return ""
    target = found.optimum.target
    return target if isinstance(target, str) else getattr(target, "func", target).__name__


def _passes(reached: dict[str, float]) -> bool:
    share = reached.get("share")
    most = all(value <= BARS[name] for name, value in reached.items() if name in BARS and name != "share")
    return most and (share is None or share >= BARS["share"])


Measure = Callable[[PreTrainedModel, PreTrainedTokenizerBase], dict[str, float]]


def _measure(bench: Bench, found: Resolved) -> Measure:
    """Return what measures a model of the method."""
    world, temperature = bench.world, float(getattr(found.method, "temperature", 1.0))
    reference = bench.ref_logp(temperature)
    if found.method.roles[exported_role(found.method.roles)].head == "scalar":

        def of_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
            mean, most = probability_errors(answer_scores(model, tokenizer, world), world.preferences, reference)
            return {"probability_error": mean, "largest_error": most}

        return of_scores
    if found.optimum is not None and found.optimum.target == "likelihood":

        def of_likelihood(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
            return {"gap": divergence(world.demonstrations, answer_logp(model, tokenizer, world))}

        return of_likelihood
    best = kl_optimum(reference, world.rewards, found.beta)
    target = best
    if found.optimum is not None and callable(found.optimum.target):
        target = found.optimum.target(Tabular(reference, world.rewards, world.preferences, found.beta))

    def of_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
        given = answer_logp(model, tokenizer, world, temperature=temperature)
        logp = given.log_softmax(1)
        return {
            "share": gain_share(logp, reference, target),
            "kl_to_optimum": divergence(logp, target),
            "outside": float(1 - given.exp().sum(1).mean()),
            "reward": float((logp.exp() * world.rewards).sum(1).mean()),
            "kl_to_reference": divergence(logp, reference),
            "objective": objective(logp, reference, world.rewards, found.beta),
            "best_objective": objective(best, reference, world.rewards, found.beta),
        }

    return of_policy
