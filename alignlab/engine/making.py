"""Rows that are made with the models of finished phases: made once, kept in the run, and then rows like any others."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from alignlab.batch import Record
from alignlab.config.recipe import DataSettings
from alignlab.config.settings import Settings
from alignlab.data import MadeSource, Mixed, RowProblem, Rows
from alignlab.data.example import Example
from alignlab.data.examples import held_out, make_examples, read_rows
from alignlab.data.lengths import fit, num_tokens
from alignlab.data.rows import RowsSettings
from alignlab.data.tokenize import tokenize
from alignlab.data.turns import Turns
from alignlab.engine.display import Display
from alignlab.engine.files import read_json, write_json
from alignlab.engine.judging import JudgeLoader, parts
from alignlab.engine.run import EngineRun
from alignlab.errors import DataError
from alignlab.generate import Generator, Sampling
from alignlab.models import config_context, load_model, load_tokenizer
from alignlab.models.source import load_config
from alignlab.rewards import texts
from alignlab.rewards.judges import Panel, PanelSettings, Store
from alignlab.rewards.judges.store import content_key
from alignlab.rewards.judges.writer import Writer, WriterSettings, server_writer

ROWS, ABOUT = "rows.jsonl", "about.json"
CHUNK = 128  # prompts that are answered at once


def is_made(mixed: Mixed) -> bool:
    """Return whether a source makes its rows."""
    return hasattr(mixed.source, "make")


@dataclass
class Making:
    """What a source is made with: `alignlab.data.DataContext`, on the engine's side."""

    name: str  # of the phase
    directory: Path
    seed: int
    base: str  # the model that the phase starts from
    base_print: str
    models: Mapping[str, Path]
    prints: Mapping[str, str]  # of the finished phases
    loader: JudgeLoader
    generator: Generator
    display: Display
    settings: Settings  # of the source that makes its rows
    nested: tuple[Mixed, ...] = ()
    cut_to: int | None = None  # tokens that a prompt is cut to, at its start, before it is answered
    numbers: dict[str, float] = field(default_factory=dict)
    opened: list[Panel | Writer] = field(default_factory=list)

    def rows(self, mixed: Mixed) -> Mixed:
        """Return the source's rows as a source of rows: made now, or before."""
        path = self.directory / ROWS
        if not path.is_file():
            self.directory.mkdir(parents=True, exist_ok=True)
            self.say(f"{mixed.source.name} makes its rows in {self.directory}")
            beside = path.with_suffix(".tmp")
            num = 0
            try:
                with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
                    for row in cast(MadeSource, mixed.source).make(mixed.settings, self):
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                        num += 1
            finally:
                for one in self.opened:
                    with suppress(RuntimeError):  # the loop is gone when the process ends
                        one.close()
            if not num:
                what = f"the data source {mixed.source.name!r} made no rows"
                raise DataError(what, where=str(self.directory), do="see the counts above; loosen its filters")
            write_json(self.directory / ABOUT, {"source": mixed.source.name, "rows": num, **self.numbers})
            os.replace(beside, path)
        return Mixed(Rows(), RowsSettings(path=str(path)), mixed.data)

    def prompts(self, settings: DataSettings) -> list[tuple[str, str | Turns]]:
        """Return another source's prompts that are not held out, each once."""
        mixed = self.nested[[one for _, one in parts(self.settings, DataSettings)].index(settings)]
        source = read_rows(mixed)
        found = make_examples(source, "prompt", mixed.label, mixed.data.allow)
        if found.bad and mixed.data.bad_rows == "error":
            where, problem = found.bad[0]
            raise DataError(f"{len(found.bad):,} rows have no prompt; {where}: {problem}", where=mixed.label)
        out = held_out(mixed, [example.prompt_key for example in found.good], found.bad)
        kept: dict[str, tuple[str, str | Turns]] = {}
        for example, is_out in zip(found.good, out, strict=True):
            if not is_out and example.prompt:
                kept.setdefault(example.prompt_key, (example.where, example.prompt))
        if not kept:
            raise DataError("all prompts are held out, so none is left to answer", where=mixed.label, do="lower `eval`")
        return self._fitting(list(kept.values()), mixed)

    def _fitting(self, prompts: list[tuple[str, str | Turns]], mixed: Mixed) -> list[tuple[str, str | Turns]]:
        """Do with overlong prompts what the settings say; those that are cut, are cut when they are answered."""
        trust, data = self.loader.context.trust_remote_code, mixed.data
        context = config_context(load_config(self.base, trust))
        limit = min(data.max_length or context, context)
        examples = [Example(where, {}, prompt, {}) for where, prompt in prompts]
        tokenized = tokenize(examples, load_tokenizer(self.base, trust))
        lengths = [0 if isinstance(found, RowProblem) else num_tokens(found) for found in tokenized]
        if not (num := sum(length > limit for length in lengths)):
            return prompts
        what = f"{num:,} of {len(prompts):,} prompts are over {limit:,} tokens; the longest has {max(lengths) - 1:,}"
        if data.overlong == "error":
            raise DataError(what, where=mixed.label, do="set `overlong: drop` or `truncate_left` for the `prompts`")
        self.log(overlong_prompts=num)
        if data.overlong == "truncate_left":
            self.cut_to = limit
            self.say(f"{what}: their start is cut off where they are answered (`overlong: truncate_left`)")
            return prompts
        self.say(f"{what}: dropped (`overlong: drop`)")
        fitting = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= limit]
        if not fitting:
            raise DataError(f"all prompts are over {limit:,} tokens", where=mixed.label, do="raise `max_length`")
        return fitting

    def respond(self, phase: str | None, prompts: Sequence[str | Turns], **sampling: Any) -> list[list[str]]:
        """Return a phase's answers to each prompt; what was sampled before a kill is not sampled again."""
        path, made_of = (
            (str(self.models[phase]), self.prints[phase]) if phase is not None else (self.base, self.base_print)
        )
        return self._sample(path, made_of, prompts, Sampling(**sampling), self.seed, self.cut_to)

    def _sample(
        self, path: str, made_of: str, prompts: Sequence[Any], sampling: Sampling, seed: int, limit: int | None
    ) -> list[list[str]]:
        """Answer prompts; those over the limit, or over what the model has room for, are cut if others may be."""
        if self.cut_to is not None:
            room = config_context(load_config(path, self.loader.context.trust_remote_code)) - sampling.max_new_tokens
            limit = max(room, 1) if limit is None else max(min(limit, room), 1)
        store = Store(self.loader.store)
        run: EngineRun | None = None
        found: list[list[str]] = []
        for start in range(0, len(prompts), CHUNK):
            part = list(prompts[start : start + CHUNK])
            key = content_key("answers", made_of, sampling.model_dump(), seed, start, part, limit)
            kept = store.get(key)
            if kept is None:
                run = run or self._load(path, seed)
                kept = self._answers(run, part, sampling, start // CHUNK, limit)
                store.put([(key, kept)])
            found += kept
        store.close()
        return found

    def _load(self, path: str, seed: int) -> EngineRun:
        context = self.loader.context
        trust = context.trust_remote_code
        model = load_model(path, "lm", dtype=context.dtype, device=context.device, trust_remote_code=trust)
        tokenizer = load_tokenizer(path, trust)
        return EngineRun({"policy": model}, tokenizer, seed=seed, phase=f"{self.name} data", generator=self.generator)

    def _answers(
        self, run: EngineRun, prompts: Sequence[Any], sampling: Sampling, step: int, limit: int | None
    ) -> list[list[str]]:
        examples = [Example("?", {}, prompt, {}) for prompt in prompts]
        records = []
        for prompt, samples in zip(prompts, tokenize(examples, run.tokenizer), strict=True):
            if isinstance(samples, RowProblem):
                raise DataError(f"a prompt cannot be answered: {samples}", where=f"prompt {str(prompt)!r:.200}")
            if limit is not None:
                samples = fit(samples, limit, "truncate_left", run.tokenizer.bos_token_id)
            records.append(Record({"prompt": prompt}, samples))
        run.begin(step, train=False)
        with torch.no_grad():
            batch = run.generate("policy", records, **sampling.model_dump())
        said = [t if isinstance(t, str) else str(t[-1]["content"]) for t in texts(run, batch)[1]]
        size = sampling.num_samples
        return [said[i * size : (i + 1) * size] for i in range(len(prompts))]

    def panel(self, settings: PanelSettings) -> Panel:
        """Load judges; their verdicts go to judgements.jsonl beside the rows."""
        panel = self.loader.panel(settings, self.directory / "judgements.jsonl")
        self.opened.append(panel)
        return panel

    def writer(self, settings: WriterSettings) -> Writer:
        """Return what continues conversations."""
        if settings.use == "openai":
            writer = server_writer(settings, Store(self.loader.store))
            self.opened.append(writer)
            return writer
        sampling = Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
        if settings.path is not None:
            path, made_of = settings.path, settings.path
        elif settings.from_phase is not None:
            path, made_of = str(self.models[settings.from_phase]), self.prints[settings.from_phase]
        else:
            path, made_of = self.base, self.base_print

        def write(conversations: Sequence[Any], seed: int) -> list[str]:
            found = self._sample(path, made_of, [list(c) for c in conversations], sampling, seed, None)
            return [answers[0].strip() for answers in found]

        return Writer(write)

    def say(self, text: str) -> None:
        """Print a line."""
        self.display.say(f"{self.name}: {text}")

    def log(self, **numbers: float) -> None:
        """Keep numbers beside the rows."""
        self.numbers |= numbers


def read_about(directory: Path) -> dict[str, Any]:
    """Return what is known of rows that were made."""
    return dict(read_json(directory / ABOUT))


def made_rows(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield rows that were made."""
    for _, row in Rows().load(RowsSettings(path=str(directory / ROWS))):
        if isinstance(row, dict):
            yield row
