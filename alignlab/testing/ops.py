"""check_op: what every implementation of an op has to hold, alignlab's own and a third party's alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from alignlab import ops
from alignlab.testing.op_cases import Case, cases

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OURS = ("aten", "prims", "prim", "profiler", "inductor", "higher_order")  # torch's own namespaces


def check_op(op: str, backend: str, *, device: str = "cpu", dtypes: Sequence[torch.dtype] = DTYPES) -> None:
    """Check the implementation of an op that is registered as `backend`.

    Values and gradients against the reference in fp64, in every dtype; inputs that are slices and transposes; nothing,
    fully masked, and -inf inputs; the same bits at every run and number of threads; torch.compile(fullgraph=True); and
    torch.library.opcheck of every custom op that it calls. Raises AssertionError, which names op, backend, case and
    dtype.
    """
    for case in cases(op):
        for dtype in dtypes:
            inputs = _to(case.inputs, dtype, device)
            with _named(op, backend, case.name, dtype, case.settings):
                compare_op(op, backend, inputs, case.settings, case.grads)
    for case in _first_of_each_kind(cases(op)):
        inputs = _to(case.inputs, torch.float32, device)
        call = _call(op, backend, case.settings)
        with _named(op, backend, case.name, torch.float32, case.settings):
            _check_strides(op, backend, case, inputs)
            _check_bits(call, inputs)
            _check_compile(call, inputs)
            _check_custom_ops(call, inputs, case.grads)


def compare_op(
    op: str, backend: str, inputs: Sequence[Tensor], settings: Mapping[str, Any] = {}, grads: Sequence[int] = ()
) -> None:
    """Compare a call, and its gradients with respect to the inputs numbered `grads`, with the reference in fp64.

    Raises AssertionError (of torch.testing.assert_close). NaN equals NaN.
    """
    leaves = [x.detach().requires_grad_(i in grads) if x.is_floating_point() else x for i, x in enumerate(inputs)]
    truths = [x.detach().double().requires_grad_(x.requires_grad) if x.is_floating_point() else x for x in leaves]
    found = _tuple(_call(op, backend, settings)(*leaves))
    wanted = _tuple(_call(op, "reference", settings)(*truths))
    coarse = op == "linear_logp" and leaves[0].dtype != torch.float32  # logits may be rounded, as a head's are
    step = torch.finfo(leaves[0].dtype).eps if coarse else 1e-5
    assert len(found) == len(wanted), f"{len(found)} results for {len(wanted)}"
    for x, truth in zip(found, wanted, strict=True):
        assert x.dtype == torch.float32, f"a result in {x.dtype}, not fp32"
        size = truth.isfinite().any() and truth[truth.isfinite()].abs().max().item()
        torch.testing.assert_close(
            x.double(), truth, rtol=step, atol=max(step, step * float(size)), equal_nan=True, check_stride=False
        )
    if not grads:
        return
    upstream = [torch.randn_like(truth) for truth in wanted]
    pairs = [(x, truth, up) for x, truth, up in zip(found, wanted, upstream, strict=True) if truth.requires_grad]
    torch.autograd.backward([x for x, _, _ in pairs], [up.float() for _, _, up in pairs])
    torch.autograd.backward([truth for _, truth, _ in pairs], [up.float().double() for _, _, up in pairs])
    for i in grads:
        gradient, true_gradient = leaves[i].grad, truths[i].grad
        assert gradient is not None and true_gradient is not None, f"input {i} got no gradient"
        assert gradient.dtype == leaves[i].dtype, f"the gradient of input {i} is {gradient.dtype}"
        eps = torch.finfo(gradient.dtype).eps
        size = true_gradient.abs().max().item() if true_gradient.numel() else 0.0
        # Gradients are differences of numbers of the size of upstream / temperature (times the KL, where it is one),
        # which may leave next to nothing.
        terms = 1 / min(1.0, settings.get("temperature", 1.0))
        terms *= max([1.0, *(x.abs().max().item() for x in wanted if x.numel())]) if op == "kl_divergence" else 1.0
        noise = (8 * eps if coarse else 1e-5) * size + 2.0**-21 * terms
        rounded = true_gradient.to(gradient.dtype).double()  # what overflows fp16 overflows in both
        torch.testing.assert_close(gradient.double(), rounded, rtol=max(eps, 1e-5), atol=noise)


def _check_strides(op: str, backend: str, case: Case, inputs: Sequence[Tensor]) -> None:
    """Rows with gaps, and columns that do not lie side by side, have to give what dense inputs give."""

    def gaps(x: Tensor) -> Tensor:
        return torch.stack([x, torch.full_like(x, 1)], 0)[0] if x.dim() < 2 else _between(x)

    def strided(x: Tensor) -> Tensor:
        return x.unsqueeze(-1).expand(*x.shape, 2).contiguous()[..., 0]

    for view in (gaps, strided):
        compare_op(op, backend, [view(x) for x in inputs], case.settings, case.grads)


def _between(x: Tensor) -> Tensor:
    """Return x as a slice: of a tensor that is longer in its last two dimensions."""
    wide = x.new_ones(*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 3)
    wide[..., :-1, 1:-2] = x
    return wide[..., :-1, 1:-2]


def _check_bits(call: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
    first = _tuple(call(*inputs))
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            for x, same in zip(_tuple(call(*inputs)), first, strict=True):
                assert torch.equal(x.nan_to_num(), same.nan_to_num()), f"other bits with {num_threads} threads"
    finally:
        torch.set_num_threads(before)


def _check_compile(call: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=False)
    for x, same in zip(_tuple(compiled(*inputs)), _tuple(call(*inputs)), strict=True):
        torch.testing.assert_close(x, same, equal_nan=True)
    torch.compiler.reset()


def _check_custom_ops(call: Callable[..., Any], inputs: Sequence[Tensor], grads: Sequence[int]) -> None:
    leaves = [x.detach().requires_grad_(i in grads) if x.is_floating_point() else x for i, x in enumerate(inputs)]
    with _Calls() as calls:
        results = [x for x in _tuple(call(*leaves)) if x.requires_grad]
        if results:
            torch.autograd.backward([x.sum() for x in results])
    for function, arguments, options in calls.found:
        if function.name() in {"alignlab::linear_logp_fold_", "alignlab::linear_logp_backward_"}:
            continue  # inside of an op in Python
        torch.library.opcheck(function, arguments, options)


class _Calls(TorchDispatchMode):
    """Notes the calls of ops that are not torch's own, with inputs as they were before."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace not in OURS:
            copies = tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in args)
            self.found.append((func, copies, dict(kwargs or {})))
        return func(*args, **(kwargs or {}))


def _call(op: str, backend: str, settings: Mapping[str, Any]) -> Callable[..., Any]:
    function = getattr(ops, op)

    def call(*inputs: Tensor) -> Any:
        return function(*inputs, **settings, backend=backend)

    return call


def _to(inputs: Sequence[Tensor], dtype: torch.dtype, device: str) -> list[Tensor]:
    return [x.to(device, dtype) if x.is_floating_point() else x.to(device) for x in inputs]


def _tuple(result: Any) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple) else (result,)


def _first_of_each_kind(all_cases: Iterator[Case]) -> list[Case]:
    """Return a case for every set of settings' names and values that are flags: the slower checks take those."""
    found: dict[str, Case] = {}
    for case in all_cases:
        kind = repr(sorted((k, v) for k, v in case.settings.items() if not isinstance(v, float)))
        found.setdefault(kind, case)
    return list(found.values())


@contextmanager
def _named(op: str, backend: str, case: str, dtype: torch.dtype, settings: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        chosen = ", ".join(f"{name}={value}" for name, value in settings.items())
        raise AssertionError(f"{op}, backend {backend!r}, case {case!r} ({chosen}), {dtype}: {error}") from error
