"""What a sampler needs of a model: rows that begin with a prompt, grow by a token at a time, and leave."""

from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from alignlab.batch import CALL_TOKENS, cut_by_length
from alignlab.errors import ModelError
from alignlab.models.forward import head_is_separable, lm_logits

_works: "WeakKeyDictionary[PreTrainedModel, dict[bool, bool]]" = WeakKeyDictionary()


class Decoder(Protocol):
    """R rows in a fixed order."""

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Add n rows behind the others; return the logits after each prompt, fp32 [n, V]."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Add a token to every row, int64 [R]; return the logits after it, fp32 [R, V]."""
        ...

    def keep(self, source: Sequence[int]) -> None:
        """Let rows leave: row i is from now on what row `source[i]` was."""
        ...


def decoder(model: PreTrainedModel, num_rows: int, width: int) -> "Decoder | None":
    """Return a decoder for rows of any lengths, or None if this model wants all of its rows equally long."""
    return Slots(model, num_rows, width) if _slots_work(model, width) else None


class Slots(Cache):
    """Keys and values in memory that is there from the start, a slot for each row.

    Every row is written from column 0 on, so a token's column is its position, and a prompt needs no mask: what is to
    its right it does not see. A new row takes the place of one that left, whatever their lengths; when a row leaves,
    one other row is copied. transformers' own cache copies all keys and values at every token.
    """

    def __init__(self, model: PreTrainedModel, num_rows: int, width: int) -> None:
        """Hold up to `num_rows` rows of up to `width` tokens."""
        super().__init__(layers=[])
        self.model, self.num_rows, self.width = model, num_rows, width
        self.store: list[tuple[Tensor, Tensor]] = []  # keys and values of each layer, [rows, heads, width, size]
        self.lengths: list[int] = []  # of the rows that are there
        self.columns = torch.zeros(0, dtype=torch.int64, device=model.device)  # the same, int64 [R]
        self.window = _window(model, width)

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Run prompts of about one length together, and copy their keys and values into free slots."""
        calls = CALL_TOKENS.get(self.model.device.type, CALL_TOKENS["cuda"])
        most = max(self.num_rows * self.width, 1)
        logits = []
        done = 0
        for size in cut_by_length([len(prompt) for prompt in prompts], most, calls):
            logits.append(self._admit(prompts[done : done + size]))
            done += size
        return torch.cat(logits)

    def _admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        width, device = max(map(len, prompts)), self.model.device
        tokens = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        cache = DynamicCache()
        logits = self._logits(tokens, None, torch.arange(width, device=device)[None], cache, lengths - 1)
        first = len(self.lengths)
        for number, layer in enumerate(cache.layers):
            written: Any = (getattr(layer, "keys", None), getattr(layer, "values", None))
            if len(self.store) == number:
                self.store.append((self._room(written[0]), self._room(written[1])))
            for there, new in zip(self.store[number], written, strict=True):
                there[first : first + len(prompts), :, :width] = new
        self.lengths += map(len, prompts)
        self.columns = torch.cat([self.columns, lengths])
        return logits

    def _room(self, like: Tensor | None) -> Tensor:
        """Return zeros: a weight of 0 on what was never written has to give 0."""
        if like is None:
            raise ModelError(f"{type(self.model).__name__} keeps no keys and values in one of its layers")
        return like.new_zeros(self.num_rows, like.shape[1], self.width, like.shape[3])

    def step(self, tokens: Tensor) -> Tensor:
        """Write a token's keys and values into every row, and look back from it."""
        seen = torch.arange(max(self.lengths) + 1, device=tokens.device) <= self.columns[:, None]
        masks: Any = self._mask(seen)
        if self.window is not None:
            near = torch.arange(seen.shape[1], device=tokens.device) > self.columns[:, None] - self.window
            masks = {"full_attention": masks, "sliding_attention": self._mask(seen & near)}
        logits = self._logits(tokens[:, None], masks, self.columns[:, None], self, torch.zeros_like(tokens))
        self.lengths = [length + 1 for length in self.lengths]
        self.columns = self.columns + 1
        return logits

    def _mask(self, seen: Tensor) -> Tensor:
        """Return what is added to attention scores, [R, 1, 1, width]."""
        mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=seen.device)
        return mask.masked_fill(~seen, -torch.inf)[:, None, None]

    def keep(self, source: Sequence[int]) -> None:
        """Copy the rows that change their slot; none of them comes from a slot that stays in use."""
        moved = [(i, origin) for i, origin in enumerate(source) if i != origin]
        if moved:
            to, origin = (torch.tensor(places, device=self.columns.device) for places in zip(*moved, strict=True))
            for pair in self.store:
                for there in pair:
                    there[to] = there[origin]
        self.lengths = [self.lengths[i] for i in source]
        self.columns = self.columns[torch.tensor(source, dtype=torch.int64, device=self.columns.device)]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token's keys and values a row, [R, heads, 1, size]; return all that were written so far."""
        num = len(self.lengths)
        rows = torch.arange(num, device=self.columns.device)
        for there, new in zip(self.store[layer_idx], (key_states, value_states), strict=True):
            there[rows, :, self.columns] = new[:, :, 0].to(there.dtype)
        keys, values = self.store[layer_idx]
        width = max(self.lengths) + 1
        return keys[:num, :, :width], values[:num, :, :width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the columns in use before this step."""
        return max(self.lengths, default=0)

    def _logits(self, tokens: Tensor, mask: Any, positions: Tensor, cache: Cache, last: Tensor) -> Tensor:
        """Return the logits after column `last` of each row, fp32 [R, V]."""
        separable = head_is_separable(self.model)
        output = (self.model.base_model if separable else self.model)(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        if getattr(output, "past_key_values", None) is not cache:
            raise _no_cache(self.model)
        found: Tensor = output.last_hidden_state if separable else output.logits
        found = found[torch.arange(len(last), device=last.device), last]
        return (lm_logits(self.model, found) if separable else found).float()


class EqualRows:
    """Rows of one length, with transformers' own cache: for models that `Slots` does not serve."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Start without rows."""
        self.model, self.num_columns = model, 0
        self.cache = DynamicCache(config=model.config)

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Run prompts of one length; once."""
        assert self.num_columns == 0 and len({len(prompt) for prompt in prompts}) == 1
        return self._logits(torch.tensor([list(prompt) for prompt in prompts], device=self.model.device))

    def step(self, tokens: Tensor) -> Tensor:
        """Add a column."""
        return self._logits(tokens[:, None])

    def keep(self, source: Sequence[int]) -> None:
        """Copy the cache without the rows that left."""
        self.cache.reorder_cache(torch.tensor(source, dtype=torch.int64, device=self.model.device))  # type: ignore[arg-type]  # an int64 tensor is a LongTensor

    def _logits(self, tokens: Tensor) -> Tensor:
        first, self.num_columns = self.num_columns, self.num_columns + tokens.shape[1]
        output = self.model(
            input_ids=tokens,
            position_ids=torch.arange(first, self.num_columns, device=tokens.device)[None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if getattr(output, "past_key_values", None) is not self.cache:
            raise _no_cache(self.model)
        logits: Tensor = output.logits[:, -1].float()
        return logits


def _no_cache(model: PreTrainedModel) -> ModelError:
    return ModelError(
        f"{type(model).__name__} keeps no cache of keys and values, which this sampler needs",
        do="use another model, or a generator plugin that samples from this one",
    )


def _window(model: PreTrainedModel, width: int) -> int | None:
    """Return how many tokens its local layers look back, if that is fewer than a row has."""
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    found = [window for window in windows if isinstance(window, int) and window < width]
    return min(found, default=None)


def _slots_work(model: PreTrainedModel, width: int) -> bool:
    """Return whether the model takes a mask for each row, by trying it once on two rows of a few tokens.

    A model that puts positions into its mask (ALiBi), or keeps more than keys and values, does not.
    """
    windowed = _window(model, width) is not None
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if windowed and not {"sliding_attention"} <= kinds <= {"full_attention", "sliding_attention"}:
        return False
    known = _works.setdefault(model, {})
    if windowed not in known:
        known[windowed] = _tried(model, windowed)
    return known[windowed]


@torch.no_grad()
def _tried(model: PreTrainedModel, windowed: bool) -> bool:
    def alone(row: list[int]) -> Tensor:
        logits: Tensor = model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits[0].float()
        return logits

    def token(*ids: int) -> Tensor:
        return torch.tensor(ids, device=model.device)

    try:
        slots = Slots(model, 2, 6)
        slots.window = 6 if windowed else None
        found = [slots.admit([[1, 2, 3], [2]]), slots.step(token(3, 1))]
        slots.keep([1])
        found.append(slots.step(token(2)))
    except Exception:  # another's code, given what it may not know: it can fail in any way
        return False
    first, second = alone([1, 2, 3, 3]), alone([2, 1, 2])
    ours, theirs = torch.cat(found), torch.stack([first[2], second[0], first[3], second[1], second[2]])
    # Other kernels, so other rounding, through all layers; a position or mask that is not heeded moves more than that.
    few = torch.finfo(model.dtype).eps ** 0.7
    return bool(torch.allclose(ours, theirs, rtol=0, atol=few * float(theirs.abs().max())))
