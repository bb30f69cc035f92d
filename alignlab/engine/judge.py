"""`alignlab judge`: judges are asked about pairs whose better answer is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from alignlab import builtin
from alignlab.config import LoadedRecipe
from alignlab.config.recipe import DataSettings
from alignlab.data.examples import held_out, make_examples, read_rows
from alignlab.data.sources import Mixed
from alignlab.engine.agreement import Agreement, measure
from alignlab.engine.display import Display
from alignlab.engine.files import write_json
from alignlab.engine.judging import JudgeLoader, parts, resolve
from alignlab.engine.plot import svg
from alignlab.errors import DataError, RecipeError
from alignlab.models import resolve_device
from alignlab.plugins import Plugins
from alignlab.rewards import FunctionReward, import_function
from alignlab.rewards.judges import JudgeContext, JudgeSettings, Pair, PanelSettings


@dataclass(frozen=True)
class Known:
    """A pair, and P(first is better) as it is known: 1, 0 or 1/2."""

    pair: Pair
    truth: float


def parse(text: str, what: str) -> dict[str, Any]:
    """Return a mapping that was typed as YAML: {use: local, path: ./model}."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"this is no YAML: {getattr(error, 'problem', error)}", where=f"{what} {text}") from None
    if not isinstance(found, dict):
        do = "write a mapping: '{use: local, path: ./my-model}'"
        raise RecipeError("this is no mapping", where=f"{what} {text}", do=do)
    return found


def panel_settings(values: Mapping[str, Any]) -> PanelSettings:
    """Check what was typed of the judges."""
    try:
        return PanelSettings.model_validate(dict(values))
    except ValidationError as error:
        raise _typed(error, "--judge") from None


def recipe_panel(loaded: LoadedRecipe, sources: Sequence[Mixed]) -> PanelSettings:
    """Return the judges that a recipe's data is labelled by. Raises RecipeError if there are none."""
    for mixed in sources:
        if isinstance(mixed.settings, PanelSettings):
            names = PanelSettings.model_fields
            return PanelSettings(**{name: getattr(mixed.settings, name) for name in names})
    raise RecipeError(
        "no phase of this recipe has a judge",
        where=loaded.recipe.output,
        do="name one: --judge '{use: local, from: PHASE}'",
    )


def known_pairs(
    mixed: Mixed, truth: str | None, *, only_held_out: bool, limit: int | None, seed: int = 0
) -> list[Known]:
    """Return a source's pairs, which of them stands first drawn by the seed."""
    source = read_rows(mixed)
    found = make_examples(source, "preference", mixed.label, mixed.data.allow)
    if found.bad and mixed.data.bad_rows == "error":
        where, problem = found.bad[0]
        raise DataError(
            f"{len(found.bad):,} rows cannot be judged; {where}: {problem}", where=mixed.label, do="set bad_rows: drop"
        )
    examples = found.good
    if only_held_out:
        out = held_out(mixed, [example.prompt_key for example in examples], found.bad)
        examples = [example for example, is_out in zip(examples, out, strict=True) if is_out]
    rng = Random(f"{seed} judge")
    known: list[Known] = []
    for example in examples[:limit]:
        chosen, rejected = (_said(example.answers[name]) for name in ("chosen", "rejected"))
        first, second = (chosen, rejected) if rng.random() < 0.5 else (rejected, chosen)
        known.append(Known(Pair(example.prompt or "", first, second, example.where), float(first == chosen)))
    if truth is not None:
        known = _true(known, truth)
    if not known:
        raise DataError("there are no pairs to judge", where=mixed.label, do="hold rows out with `eval`")
    return known


def _true(known: Sequence[Known], name: str) -> list[Known]:
    """Replace labels by what a reward function says."""
    pairs = [one.pair for one in known]
    firsts, seconds = true_scores(name, pairs)
    return [Known(pair, 0.5 if a == b else float(a > b)) for pair, a, b in zip(pairs, firsts, seconds, strict=True)]


def true_scores(name: str, pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """Return what a reward function gives to the first and to the second answers."""
    rule = import_function(name)
    assert isinstance(rule, FunctionReward)
    prompts = [pair.prompt for pair in pairs]

    def score(answers: Sequence[str]) -> list[float]:
        ids: list[list[int]] = [[] for _ in answers]
        return [float(x) for x in rule.function(prompts=prompts, completions=list(answers), completion_ids=ids)]

    return score([pair.first for pair in pairs]), score([pair.second for pair in pairs])


def judge(
    known: Sequence[Known], settings: PanelSettings, loader: JudgeLoader, output: Path, display: Display
) -> Agreement:
    """Ask the judges about every pair; print and write how far they agree with what is known."""
    output.mkdir(parents=True, exist_ok=True)
    panel = loader.panel(settings, output / "judgements.jsonl")
    try:
        judged = list(panel.compare([one.pair for one in known]))
    finally:
        panel.close()
    panel.check_useful()
    tally = panel.tally
    agreement = measure(
        [one.probability for one in judged],
        [one.truth for one in known],
        [one.by_principle for one in judged] if settings.constitution else (),
        (tally.said_first, tally.verdicts - tally.unread) if settings.both_orders else None,
    )
    names = ", ".join(one.name or one.use for one in settings.judge)
    display.say(f"{names}: {tally.verdicts:,} verdicts, {tally.disagree:,} pairs whose two orders disagree")
    for line in (*agreement.lines(), *(f"warning: {text}" for text in tally.warnings())):
        display.say(line)
    write_json(output / "agreement.json", {"judges": names, **agreement.to_json(), "tally": tally.numbers()})
    (output / "agreement.svg").write_text(svg(agreement, f"{names}: accuracy {agreement.accuracy[0]:.3f}"))
    display.say(f"every verdict, these numbers and a plot: {output}")
    return agreement


def file_source(path: str, own: Mapping[str, Any], plugins: Plugins) -> Mixed:
    """Return a data file as a source: `rows`, or what `own` names."""
    values = {"source": "rows", "path": path, **own}
    try:
        data = DataSettings.model_validate(values)
        source = plugins.get("data", data.source, "--data")
        return Mixed(source, source.settings.model_validate(data.model_extra or {}), data)
    except ValidationError as error:
        raise _typed(error, "--data") from None


def bare_loader(plugins: Plugins, settings: PanelSettings, output: Path) -> JudgeLoader:
    """Return a loader for judges that need no run. Raises RecipeError for one that names a phase."""
    for _, one in parts(settings, JudgeSettings):
        if "from" in one.own:
            do = "name the recipe of that run instead of a data file, or the model's directory with `path`"
            raise RecipeError(f"there is no run here with a phase {one.own['from']!r}", where="--judge", do=do)
        try:
            resolve(None, plugins, one)
        except ValidationError as error:
            raise _typed(error, f"--judge, {one.use}") from None
    return JudgeLoader(
        plugins, JudgeContext(device=resolve_device("auto"), dtype=torch.float32), output / "replies.sqlite"
    )


def core_plugins() -> Plugins:
    """Return the plugins of a command without a recipe."""
    return Plugins(builtin)


def _typed(error: ValidationError, where: str) -> RecipeError:
    """Return pydantic's errors about something that was typed, a line each."""
    found = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
    return RecipeError("\n".join(f"{place}: {said}" if place else said for place, said in found), where=where)


def _said(answer: Any) -> str:
    return answer if isinstance(answer, str) else str(answer[-1]["content"])
