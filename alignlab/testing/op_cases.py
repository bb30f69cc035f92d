"""Inputs that every implementation of an op has to take, with what others fell over among them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

V = 1031  # prime, and more than a block of any kernel


@dataclass(frozen=True)
class Case:
    """One call: the op's tensors in order, in fp32, and its settings. `grads` are the inputs that get a gradient."""

    name: str
    inputs: tuple[Tensor, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    grads: tuple[int, ...] = ()


def cases(op: str) -> Iterator[Case]:
    """Yield an op's cases, the same at every call."""
    yield from _CASES[op](torch.Generator().manual_seed(0))


def _logits(rng: torch.Generator, *shape: int) -> dict[str, Tensor]:
    """Return logits by what is special about them."""
    plain = torch.randn(*shape, generator=rng) * 3
    holes = plain.masked_fill(torch.rand(*shape, generator=rng) < 0.3, -math.inf)
    holes[..., -1] = 1
    late = plain.masked_fill(torch.arange(shape[-1]) < shape[-1] - 2, -math.inf)
    offset = plain + 64 * torch.arange(plain.numel() // shape[-1]).reshape(*shape[:-1], 1)
    peaked = plain.clone()
    peaked[..., shape[-1] // 2] += 60
    lowest = torch.full(shape, -6e4)  # what masks that are no -inf write; fp16 ends at 65504
    return {"plain": plain, "-inf": holes, "only the last": late, "offset": offset, "peaked": peaked, "lowest": lowest}


def _token_logp(rng: torch.Generator) -> Iterator[Case]:
    for name, logits in _logits(rng, 2, 3, V).items():
        tokens = torch.randint(V, (2, 3), generator=rng)
        tokens[0, 0] = V - 1
        for temperature, entropy in ((1.0, False), (0.7, True), (3.0, True)):
            settings = {"temperature": temperature, "entropy": entropy}
            yield Case(f"{name} logits", (logits, tokens), settings, (0,))
    first = torch.zeros(4, dtype=torch.long)
    yield Case("rows of -inf", (torch.full((4, 5), -math.inf), first), {"entropy": True})
    yield Case("no rows", (torch.zeros(0, 5), first[:0]), {"entropy": True}, (0,))
    yield Case("one token", (torch.randn(4, 1, generator=rng), first), {"entropy": True}, (0,))
    yield Case("one row", (torch.randn(7, generator=rng), torch.tensor(3)), {}, (0,))


def _linear_logp(rng: torch.Generator) -> Iterator[Case]:
    hidden, weight = torch.randn(37, 16, generator=rng), torch.randn(V, 16, generator=rng) / 4
    tokens = torch.randint(V, (37,), generator=rng)
    yield Case("plain", (hidden, weight, tokens), {}, (0, 1))
    yield Case("entropy", (hidden, weight, tokens), {"temperature": 0.7, "entropy": True}, (0, 1))
    yield Case("no rows", (hidden[:0], weight, tokens[:0]), {"entropy": True}, (0, 1))


def _kl_divergence(rng: torch.Generator) -> Iterator[Case]:
    p, q = _logits(rng, 2, 3, V), _logits(rng, 2, 3, V)
    for name, logits in p.items():
        for temperature in (1.0, 0.7):
            yield Case(f"{name} logits of p", (logits, q["plain"]), {"temperature": temperature}, (0, 1))
    yield Case("the same logits", (p["offset"], p["offset"]), {}, (0, 1))
    yield Case("the same -inf", (p["-inf"], q["plain"].masked_fill(p["-inf"].isinf(), -math.inf)), {}, (0, 1))
    yield Case("what q cannot draw", (p["plain"], q["-inf"]))
    yield Case("no rows", (torch.zeros(0, 5), torch.zeros(0, 5)), {}, (0, 1))


def _kl_estimate(rng: torch.Generator) -> Iterator[Case]:
    logp, ref = torch.randn(2, 3, V, generator=rng)
    for kind in ("k1", "k2", "k3"):
        yield Case(kind, (logp, ref), {"kind": kind}, (0, 1))
        yield Case(f"{kind} far apart", (logp * 100, ref), {"kind": kind}, (0, 1))
        yield Case(f"{kind} of nothing", (logp[:0], ref[:0]), {"kind": kind}, (0, 1))


def _masks(rng: torch.Generator, *shape: int) -> dict[str, Tensor]:
    some = torch.rand(*shape, generator=rng) < 0.7
    row = some.clone()
    row[0] = False
    one = torch.zeros(shape, dtype=torch.bool)
    one[0, -1] = True
    every = torch.ones(shape, dtype=torch.bool)
    return {"some": some, "all": every, "none": ~every, "one row masked": row, "one kept": one}


def _gae(rng: torch.Generator) -> Iterator[Case]:
    for shape in ((5, 1), (3, 47), (2, 256), (1, 1000)):
        rewards, values = torch.randn(2, *shape, generator=rng)
        for name, mask in _masks(rng, *shape).items():
            for settings in ({"gamma": 1.0, "lam": 0.95}, {"gamma": 0.9, "lam": 0.8}, {"gamma": 1.0, "lam": 1.0}):
                yield Case(f"{name} of {list(shape)}", (rewards, values, mask), settings)
    empty = torch.zeros(0, 4)
    yield Case("no rows", (empty, empty, empty.bool()))
    yield Case("no steps", (empty.T, empty.T, empty.T.bool()))


def _masked_whiten(rng: torch.Generator) -> Iterator[Case]:
    for name, mask in _masks(rng, 3, 4099).items():
        x = torch.randn(3, 4099, generator=rng) * 2 + 5
        for shift_mean in (True, False):
            grads = () if name == "one kept" else (0,)  # its scale is 1e4: what is left of a gradient is rounding
            yield Case(name, (x, mask), {"shift_mean": shift_mean}, grads)
    yield Case("nothing", (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool)), {}, (0,))


def _ppo_policy_loss(rng: torch.Generator) -> Iterator[Case]:
    for name, mask in _masks(rng, 5, 2053).items():
        logp, old, advantages = torch.randn(3, 5, 2053, generator=rng)
        for settings in ({}, {"clip_low": 0.1, "clip_high": 0.3, "dual_clip": 1.5}):
            yield Case(name, (0.3 * logp, 0.3 * old, advantages, mask), settings, (0,))
    far = torch.tensor([[1e4, -1e4, 25.0, -25.0]])
    yield Case("far apart", (far, torch.zeros(1, 4), -torch.ones(1, 4), torch.ones(1, 4).bool()), {}, (0,))
    empty = torch.zeros(0, 3)
    yield Case("nothing", (empty, empty, empty, empty.bool()), {}, (0,))


def _ppo_value_loss(rng: torch.Generator) -> Iterator[Case]:
    for name, mask in _masks(rng, 5, 2053).items():
        values, old, returns = torch.randn(3, 5, 2053, generator=rng)
        for clip in (None, 0.3):
            yield Case(name, (values, old, returns, mask), {"clip": clip}, (0,))
    empty = torch.zeros(0, 3)
    yield Case("nothing", (empty, empty, empty, empty.bool()), {}, (0,))


_CASES: dict[str, Callable[[torch.Generator], Iterator[Case]]] = {
    "token_logp": _token_logp,
    "linear_logp": _linear_logp,
    "kl_divergence": _kl_divergence,
    "kl_estimate": _kl_estimate,
    "gae": _gae,
    "masked_whiten": _masked_whiten,
    "ppo_policy_loss": _ppo_policy_loss,
    "ppo_value_loss": _ppo_value_loss,
}
