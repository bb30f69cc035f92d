"""Checks that the public ops share: each raises ValueError with what was wanted and what came."""

from torch import Tensor


def same_shape(like: str, wanted: Tensor, **tensors: Tensor) -> None:
    """Want every tensor to have the shape of `wanted`, which the caller knows as `like`."""
    for name, tensor in tensors.items():
        if tensor.shape != wanted.shape:
            raise ValueError(f"{name} wants the shape of {like}, {list(wanted.shape)}, got {list(tensor.shape)}")


def floating(**tensors: Tensor) -> None:
    """Want every tensor to have a floating dtype."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} wants a floating dtype, got {tensor.dtype}")


def positive(**numbers: float) -> None:
    """Want every number to be above 0."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} wants to be above 0, got {number}")


def one_token_a_row(logits: Tensor, tokens: Tensor) -> None:
    """Want logits [..., V] and tokens [...]."""
    if logits.dim() == 0 or logits.shape[:-1] != tokens.shape:
        wanted = "[..., V] and [...]"
        raise ValueError(f"logits and tokens want shapes {wanted}, got {list(logits.shape)} and {list(tokens.shape)}")


def results(**tensors: Tensor) -> None:
    """Want tensors that are to be written over to be results, which nobody else may be reading, and not leaves."""
    for name, tensor in tensors.items():
        if tensor.requires_grad and tensor.is_leaf:
            shape = list(tensor.shape)
            raise ValueError(f"inplace_backward writes over {name}, and this ({shape}) is a leaf, not a result")


def same_device(**tensors: Tensor) -> None:
    """Want all tensors to be on one device."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"all tensors want one device, got {', '.join(f'{n} on {d}' for n, d in devices.items())}")
