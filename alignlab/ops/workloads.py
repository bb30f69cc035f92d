"""What `alignlab bench` and benchmarks/ops time: each op at the sizes of training, as the public function is called."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import alignlab.ops as ops

Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """One op at one size: `prepare(device)` makes the inputs; `step`, a call and its backward pass, is timed."""

    op: str
    size: str
    mode: str  # "forward", "forward+entropy", "forward+backward", "forward+backward in place"
    num_bytes: int  # that have to be read and written at least
    prepare: Callable[[str], tuple[Tensor, ...]]
    step: Callable[[Callable[..., Any], tuple[Tensor, ...]], Any]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return a name that is unique."""
        return f"{self.op} {self.mode} {self.size}"


def call(op: str, backend: str, **settings: Any) -> Callable[..., Any]:
    """Return the public function of an op with its backend and settings filled in."""
    function = getattr(ops, op)

    def run(*inputs: Tensor) -> Any:
        return function(*inputs, **settings, backend=backend)

    return run


def _forward(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
    with torch.no_grad():
        return function(*inputs)


def _backward(*grads: int) -> Callable[[Callable[..., Any], tuple[Tensor, ...]], Any]:
    """Return a step with a backward pass, into fresh memory, for the inputs that are numbered."""

    def step(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
        leaves = [x.detach().requires_grad_(i in grads) if i in grads else x for i, x in enumerate(inputs)]
        result = function(*leaves)
        first = result[0] if isinstance(result, tuple) else result
        return torch.autograd.grad(first, [leaves[i] for i in grads], torch.ones_like(first))

    return step


def _over_the_logits(*grads: int) -> Callable[[Callable[..., Any], tuple[Tensor, ...]], Any]:
    """Return a step whose logits are a result (of a head that costs nothing), so that they may be written over."""

    def step(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
        results = [_Head.apply(_ANCHOR, x) if i in grads else x for i, x in enumerate(inputs)]  # type: ignore[no-untyped-call]
        result = function(*results)
        return torch.autograd.grad(result, _ANCHOR, torch.ones_like(result))

    return step


_ANCHOR = torch.zeros((), requires_grad=True)


class _Head(torch.autograd.Function):
    """Stands for the head: hands out logits that are a result of it, and drops their gradient."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, logits: Tensor) -> Tensor:
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.zeros(()), None


def workloads(op: str, device: str = "cpu") -> Iterator[Workload]:
    """Yield an op's workloads, at sizes that fit the device."""
    yield from _WORKLOADS[op](device != "cpu")


def _normal(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.randn(*shape, dtype=dtype, device=device)


def _name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


def _sizes(is_gpu: bool) -> list[tuple[int, int]]:
    return [(8192, 32768), (8192, 131072), (8192, 262144)] if is_gpu else [(2048, 50257)]


def _token_logp(is_gpu: bool) -> Iterator[Workload]:
    for n, v in _sizes(is_gpu):
        for dtype in (torch.bfloat16,) if is_gpu else (torch.float32, torch.bfloat16):

            def prepare(device: str, n: int = n, v: int = v, dtype: torch.dtype = dtype) -> tuple[Tensor, ...]:
                return _normal(n, v, dtype=dtype, device=device), torch.randint(v, (n,), device=device)

            size, num_bytes = f"[{n}, {v}] {_name(dtype)}", n * v * dtype.itemsize
            yield Workload("token_logp", size, "forward", num_bytes, prepare, _forward)
            yield Workload("token_logp", size, "forward+entropy", num_bytes, prepare, _forward, {"entropy": True})
            yield Workload("token_logp", size, "forward+backward", 3 * num_bytes, prepare, _backward(0))
            yield Workload("token_logp", size, "forward+backward in place", 3 * num_bytes, prepare, _over_the_logits(0))


def _kl_divergence(is_gpu: bool) -> Iterator[Workload]:
    for n, v in _sizes(is_gpu)[:2]:
        for dtype in (torch.bfloat16,) if is_gpu else (torch.float32, torch.bfloat16):

            def prepare(device: str, n: int = n, v: int = v, dtype: torch.dtype = dtype) -> tuple[Tensor, ...]:
                return _normal(n, v, dtype=dtype, device=device), _normal(n, v, dtype=dtype, device=device)

            size, num_bytes = f"[{n}, {v}] {_name(dtype)}", 2 * n * v * dtype.itemsize
            yield Workload("kl_divergence", size, "forward", num_bytes, prepare, _forward)
            yield Workload("kl_divergence", size, "forward+backward", 5 * num_bytes // 2, prepare, _backward(0))
            yield Workload(
                "kl_divergence", size, "forward+backward in place", 5 * num_bytes // 2, prepare, _over_the_logits(0)
            )


def _linear_logp(is_gpu: bool) -> Iterator[Workload]:
    n, h, v = (8192, 4096, 131072) if is_gpu else (1024, 768, 50257)

    def prepare(device: str) -> tuple[Tensor, ...]:
        hidden, weight = (_normal(rows, h, dtype=torch.bfloat16, device=device) for rows in (n, v))
        return hidden, weight / h**0.5, torch.randint(v, (n,), device=device)

    size = f"[{n}, {h}] x {v} bf16"
    yield Workload("linear_logp", size, "forward+backward", 2 * 2 * (n * h + v * h), prepare, _backward(0, 1))


def _token_sizes(is_gpu: bool) -> list[tuple[int, int]]:
    return [(4096, 4096), (64, 32768)] if is_gpu else [(64, 1024), (256, 2048), (512, 2048)]


def _mask(n: int, t: int, device: str) -> Tensor:
    return torch.rand(n, t, device=device) < 0.9


def _gae(is_gpu: bool) -> Iterator[Workload]:
    for n, t in _token_sizes(is_gpu)[:2]:

        def prepare(device: str, n: int = n, t: int = t) -> tuple[Tensor, ...]:
            return _normal(n, t, device=device), _normal(n, t, device=device), _mask(n, t, device)

        yield Workload("gae", f"[{n}, {t}] fp32", "forward", 17 * n * t, prepare, _forward)


def _per_token(op: str, num_columns: int, bytes_a_token: int, mode: str, **settings: Any) -> Any:
    """Return the workloads of an op on columns of [B, T] and a mask."""

    def found(is_gpu: bool) -> Iterator[Workload]:
        for n, t in _token_sizes(is_gpu):

            def prepare(device: str, n: int = n, t: int = t) -> tuple[Tensor, ...]:
                columns = [_normal(n, t, device=device) / 4 for _ in range(num_columns)]
                return *columns, *(() if op == "kl_estimate" else (_mask(n, t, device),))

            step = _forward if mode == "forward" else _backward(0)
            yield Workload(op, f"[{n}, {t}] fp32", mode, bytes_a_token * n * t, prepare, step, settings)

    return found


_WORKLOADS: dict[str, Callable[[bool], Iterator[Workload]]] = {
    "token_logp": _token_logp,
    "linear_logp": _linear_logp,
    "kl_divergence": _kl_divergence,
    "kl_estimate": _per_token("kl_estimate", 2, 24, "forward+backward", kind="k3"),
    "gae": _gae,
    "masked_whiten": _per_token("masked_whiten", 1, 14, "forward"),
    "ppo_policy_loss": _per_token("ppo_policy_loss", 3, 25, "forward+backward"),
    "ppo_value_loss": _per_token("ppo_value_loss", 3, 25, "forward+backward", clip=0.2),
}
