"""What the losses check of what they are given."""

from torch import Tensor


def check_rows(like: str, rows: Tensor, **tensors: Tensor) -> None:
    for name, tensor in {like: rows, **tensors}.items():
        if tensor.dim() != 1 or tensor.shape != rows.shape:
            raise ValueError(f"{like} and {name} want one shape [N], got {list(rows.shape)} and {list(tensor.shape)}")
