"""Check every row of every source: what training and `alignlab check` both stand on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from alignlab.batch import Record
from alignlab.data.cache import tokenize_cached
from alignlab.data.example import Example
from alignlab.data.examples import Examples, held_out, make_examples, read_rows
from alignlab.data.lengths import fit, num_tokens
from alignlab.data.problems import Limit, Problems
from alignlab.data.sources import Mixed, RowProblem
from alignlab.data.summary import Note, SourceSummary
from alignlab.data.tokenize import Samples, ends_turns
from alignlab.errors import DataError
from alignlab.method import RowFormat


@dataclass(frozen=True)
class Checked:
    """What was found in one source. With an error, the records are those that could be used without the bad rows."""

    records: tuple[Record, ...]
    held_out: tuple[bool, ...]  # for each record
    summary: SourceSummary
    error: DataError | None = None
    default_template: bool = False


def check_rows(
    sources: Sequence[Mixed],
    want: RowFormat,
    tokenizer: PreTrainedTokenizerBase,
    *,
    context_length: int,
    cache: Path | None = None,
) -> list[Checked]:
    """Check every row of every source, and return what was found; it raises nothing for rows."""
    if not sources:
        raise DataError("the phase has no data", do="set `data` to a source, or to a list of them")
    checked = []
    for mixed in sources:
        try:
            checked.append(_check_source(mixed, want, tokenizer, context_length, cache))
        except DataError as error:
            checked.append(Checked((), (), SourceSummary(mixed.label, 0, 0, 0, 0), error))
    return checked


def _check_source(
    mixed: Mixed, want: RowFormat, tokenizer: PreTrainedTokenizerBase, context_length: int, cache: Path | None
) -> Checked:
    limit = _limit(mixed, want, context_length)
    source = read_rows(mixed)
    found = make_examples(source, want, mixed.label, mixed.data.allow)
    fitted = _fit(found, tokenize_cached(found.good, tokenizer, cache), mixed, limit, tokenizer.bos_token_id)
    records = [record for _, record in fitted.records]
    out = held_out(mixed, [key for key, _ in fitted.records], fitted.bad)
    num_read = len(source.order)
    bad = Problems(sorted(fitted.bad, key=lambda problem: source.order[problem[0]]), limit)
    dropped, stopping = bad.split(mixed.data)
    error = stopping.error(mixed.label, num_read)
    if error is None and not records:
        error = dropped.nothing_left(mixed.label, num_read)
    elif error is None and all(out):
        what = f"`eval: {mixed.data.eval:g}` holds out all {len(records):,} rows, so none is left to train on"
        error = DataError(what, where=mixed.label, do="lower `eval`")
    lengths = [num_tokens(record.samples) for record in records] or [0]
    summary = SourceSummary(
        label=mixed.label,
        num_read=num_read,
        num_kept=len(records),
        num_train=len(records) - sum(out),
        num_eval=sum(out),
        notes=(*found.notes, *fitted.notes, *dropped.notes(), *_whole_notes(found, want, tokenizer)),
        lengths=(min(lengths), round(sum(lengths) / len(lengths)), max(lengths)),
    )
    default_template = not tokenizer.chat_template and any(map(_is_chat, found.good))
    return Checked(tuple(records), tuple(out), summary, error, default_template)


@dataclass(frozen=True)
class Fitted:
    """Rows with their tokens, each by its prompt's key; and those that have none, or too many."""

    records: list[tuple[str, Record]]
    bad: list[tuple[str, RowProblem]]
    notes: list[Note]


def _fit(
    found: Examples, tokenized: Sequence[Samples | RowProblem], mixed: Mixed, limit: Limit, bos: int | None
) -> Fitted:
    records: list[tuple[str, Record]] = []
    bad = list(found.bad)
    cut: list[str] = []
    for example, samples in zip(found.good, tokenized, strict=True):
        try:
            if isinstance(samples, RowProblem):
                raise samples
            fitted = fit(samples, limit.tokens, mixed.data.overlong, bos)
        except RowProblem as problem:
            problem.prompt_key = example.prompt_key
            bad.append((example.where, problem))
            continue
        if fitted is not samples:
            cut.append(example.where)
        records.append((example.prompt_key, Record(example.columns, fitted, example.where)))
    what = f"the prompt's start cut off to fit {limit} (`overlong: truncate_left`)"
    return Fitted(records, bad, [Note(what, tuple(cut))] if cut else [])


def _limit(mixed: Mixed, want: RowFormat, context_length: int) -> Limit:
    tokens = mixed.data.max_length
    if tokens is None:
        return Limit(context_length, "the model's context", want == "prompt")
    if tokens > context_length:
        what = f"`max_length` is {tokens:,}, and the model's context only {context_length:,} tokens"
        raise DataError(what, where=mixed.label, do=f"set `max_length` to {context_length} or less")
    return Limit(tokens, "`max_length`", want == "prompt")


def _whole_notes(found: Examples, want: RowFormat, tokenizer: PreTrainedTokenizerBase) -> Iterator[Note]:
    """Yield what is to be said of all rows."""
    if found.layout == "pair" and want == "completion":
        yield Note("completion taken from `chosen`")
    if found.layout == "completion" and any("label" in example.columns for example in found.good):
        yield Note("`label` is not looked at: every completion is learned from")
    if want == "preference" and any("probability" in example.columns for example in found.good):
        yield Note("`probability` is taken for the probability that `chosen` is the better answer")
    if any(map(_is_chat, found.good)):
        if not tokenizer.chat_template:
            yield Note("the tokenizer has no chat template: alignlab's own is used (Human: ... Assistant: ..., EOS)")
        elif not ends_turns(tokenizer):
            yield Note("the chat template ends the assistant's turn with no special token: EOS is put there")


def _is_chat(example: Example) -> bool:
    return any(isinstance(part, list) for part in (example.prompt, *example.answers.values()))
