"""The report at a run's end: its policies side by side on prompts that none was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from alignlab.batch import Record
from alignlab.config import LoadedRecipe
from alignlab.config.recipe import ReportSettings
from alignlab.data import Split, epoch_order
from alignlab.engine.agreement import measure
from alignlab.engine.calibration import calibration
from alignlab.engine.display import Display
from alignlab.engine.files import locked, read_json, write_json
from alignlab.engine.intervals import half_width, wilson
from alignlab.engine.judge import true_scores
from alignlab.engine.making import made_rows, read_about
from alignlab.engine.pipeline import Pipeline, load_rewards
from alignlab.engine.plan import PlannedReward, fingerprint, plan_rewards, report_sources
from alignlab.engine.run import EngineRun
from alignlab.errors import CheckpointError
from alignlab.models import load_model, load_tokenizer, resolve_device
from alignlab.rewards import FunctionReward, Rewards, texts
from alignlab.rewards.judges import Pair

FILE = "report.json"


@dataclass(frozen=True)
class Answers:
    """One policy's answers to the prompts, and what they measure; tensors are float [P], a row for each prompt."""

    rewards: Mapping[str, Tensor]
    kl: Tensor  # KL(policy || baseline) summed over the answer, nats
    length: Tensor  # tokens
    finished: Tensor
    texts: Sequence[str]


def make_report(loaded: LoadedRecipe, pipeline: Pipeline) -> dict[str, Any] | None:
    """Compare the policies of a finished run as its recipe's `report` says, and write report.json.

    All policies answer the same prompts with the same random numbers, so differences are taken prompt by prompt.
    """
    settings = loaded.recipe.report
    if settings is None:
        return None
    with locked(pipeline.output):
        return _report(settings, loaded, pipeline)


def _report(settings: ReportSettings, loaded: LoadedRecipe, pipeline: Pipeline) -> dict[str, Any]:
    """Measure every policy, unless the report that is there was made of the same."""
    finished = pipeline.finished
    names = settings.phases or [name for name, phase in finished.items() if phase.head == "lm"]
    names = [settings.baseline, *(name for name in names if name != settings.baseline)]
    base = str(finished[settings.baseline].model)
    split = pipeline.split(report_sources(loaded, pipeline.plugins), "prompt", base, pipeline.cache)
    made_of = fingerprint(
        settings.model_dump(mode="json"), split.digest, [(n, finished[n].fingerprint) for n in finished]
    )
    path = pipeline.output / FILE
    if path.is_file() and read_json(path).get("fingerprint") == made_of:
        return dict(read_json(path))
    records = _prompts(split, settings.num_prompts)
    planned = plan_rewards(loaded, pipeline.plugins, settings.reward, ("report", "reward"))
    rewards = load_rewards(planned, pipeline.reward_context(pipeline.report_tokens))
    measured = {name: _answer(name, records, settings, pipeline, rewards) for name in names}
    report = {
        "fingerprint": made_of,
        "baseline": settings.baseline,
        "num_prompts": len(records),
        "policies": {n: _row(answers, measured[settings.baseline]) for n, answers in measured.items()},
        "reward_models": _reward_models(pipeline),
        "feedback": _feedback(pipeline, planned),
        "samples": [
            {"prompt": _text(records[i]), **{name: answers.texts[i] for name, answers in measured.items()}}
            for i in range(min(8, len(records)))
        ],
    }
    write_json(path, report)
    return report


def _prompts(split: Split, num: int) -> list[Record]:
    """Return held-out records to answer, each prompt once, in a fixed random order."""
    drawn = [split.eval[i] for i in epoch_order(len(split.eval), 0, 0)]
    return list({record.samples["prompt"].tokens: record for record in drawn}.values())[:num]


def _answer(
    name: str, records: list[Record], settings: ReportSettings, pipeline: Pipeline, rewards: Rewards | None
) -> Answers:
    """Sample one answer to each prompt from a phase's policy, and measure it."""
    device = resolve_device(pipeline.recipe.model.device)
    paths = {"policy": pipeline.finished[name].model, "baseline": pipeline.finished[settings.baseline].model}
    settings_of = pipeline.recipe.model
    trust = settings_of.trust_remote_code
    dtype = getattr(torch, settings_of.dtype)
    loaded = {
        path: load_model(str(path), "lm", dtype=dtype, device=device, trust_remote_code=trust).requires_grad_(False)
        for path in set(paths.values())
    }
    models = {role: loaded[path] for role, path in paths.items()}
    run = EngineRun(
        models,
        load_tokenizer(str(paths["policy"]), trust),
        seed=pipeline.recipe.seed,
        phase="report",
        microbatch_tokens=pipeline.report_tokens,
        generator=pipeline.plugins.get("generator", settings.generator),
    )
    run.begin(0, train=False)
    sampling = {"max_new_tokens": settings.max_new_tokens, "temperature": settings.temperature}
    with torch.no_grad():
        batch = run.generate("policy", records, **sampling)
        kl = run.kl("policy", "baseline", batch, temperature=settings.temperature).sum(1)
        components = rewards(run, batch)[1] if rewards else {}
    return Answers(
        rewards={key: values.cpu().double() for key, values in components.items()},
        kl=kl.cpu().double(),
        length=batch.acted.sum(1).cpu().double(),
        finished=batch.finished.cpu().double(),
        texts=[_text_of(completion) for completion in texts(run, batch)[1]],
    )


def _row(answers: Answers, baseline: Answers) -> dict[str, Any]:
    """Return one policy's line: means with half widths of 95% intervals, differences and win rate by prompt."""
    row: dict[str, Any] = {
        "rewards": {name: _mean(x) for name, x in answers.rewards.items()},
        "kl": _mean(answers.kl),
        "length": float(answers.length.mean()),
        "finished": float(answers.finished.mean()),
    }
    if answers is not baseline and answers.rewards:
        row["gain"] = {name: _mean(x - baseline.rewards[name]) for name, x in answers.rewards.items()}
        first = next(iter(answers.rewards))
        difference = answers.rewards[first] - baseline.rewards[first]
        difference = difference[~difference.isnan()]
        share = float(((difference > 0).double() + 0.5 * (difference == 0).double()).mean())
        row["win_rate"] = [share, *wilson(share, len(difference))]
    return row


def _mean(values: Tensor) -> list[float]:
    """Return the mean and the half width of its interval, over the prompts on which the reward did not abstain."""
    kept = values[~values.isnan()]
    return [float(kept.mean()), half_width(kept)]


def _reward_models(pipeline: Pipeline) -> dict[str, Any]:
    """Return the held-out accuracy of every reward model of the run, with its interval."""
    found = {}
    for name, phase in pipeline.finished.items():
        measured = read_json(phase.model / "alignlab.json")["eval"]
        if phase.head == "scalar" and "accuracy" in measured:
            num = int(measured["num"])
            found[name] = {"accuracy": [measured["accuracy"], *wilson(measured["accuracy"], num)], "num": num}
            if (calibrated := calibration(measured)) is not None:
                found[name]["calibration"] = calibrated.to_json()
    return found


def _feedback(pipeline: Pipeline, planned: Sequence[PlannedReward]) -> dict[str, Any]:
    """Return what is known of AI feedback, and how far it agrees with the report's first reward, if a function."""
    found: dict[str, Any] = {}
    for name, directory in pipeline.made.items():
        found[name] = {"directory": str(directory), **read_about(directory)}
        rows = [row for row in made_rows(directory) if "probability" in row]
        if rows and planned and isinstance(planned[0].rule, FunctionReward):
            pairs = [Pair(row["prompt"], _text_of(row["chosen"]), _text_of(row["rejected"])) for row in rows]
            scores = true_scores(planned[0].settings.use, pairs)
            truths = [0.5 if a == b else float(a > b) for a, b in zip(*scores, strict=True)]
            agreement = measure([row["probability"] for row in rows], truths)
            found[name]["agreement"] = {"with": planned[0].name, **agreement.to_json()}
    return found


def read_report(output: Path) -> dict[str, Any]:
    """Read the report of a run."""
    if not (output / FILE).is_file():
        raise CheckpointError(
            "there is no report in this directory",
            where=str(output),
            do="name the output directory of a finished run whose recipe has a `report`",
        )
    return dict(read_json(output / FILE))


def show_report(report: Mapping[str, Any], output: Path, display: Display) -> None:
    """Print the report: the table, the reward models, and the files to look at."""
    baseline = report["baseline"]
    names = list(next(iter(report["policies"].values()))["rewards"])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    against = [f"over {baseline}", "wins"] if names else []
    table.add_column("policy")
    for title in (*names, *against, "KL", "tokens", "ended"):
        table.add_column(title, justify="right")
    for policy, row in report["policies"].items():
        cells = [_pm(row["rewards"][name]) for name in names]
        if names:
            cells.append(_pm(row["gain"][names[0]], "+") if "gain" in row else "")
            cells.append(_percent(row["win_rate"]) if "win_rate" in row else "")
        cells += [_pm(row["kl"]), f"{row['length']:.1f}", f"{row['finished']:.0%}"]
        table.add_row(policy, *cells)
    display.say(f"{report['num_prompts']} held-out prompts, one answer each; ± and [ ] are 95% intervals")
    if names:
        display.say(
            f"over {baseline}, wins: {names[0]} against {baseline}, prompt by prompt; KL: to {baseline}, in nats"
        )
    display.console.print(table)
    for name, found in report["reward_models"].items():
        accuracy, low, high = found["accuracy"]
        text = f"reward model {name}: accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}] on {found['num']} held-out rows"
        if "calibration" in found:
            low, high = found["calibration"]["interval"]
            text += f", calibration error {found['calibration']['error']:.3f} [{low:.3f}, {high:.3f}]"
        display.say(text)
    for name, found in report.get("feedback", {}).items():
        if "agreement" in found:
            of = found["agreement"]
            share, low, high = of["accuracy"]
            display.say(
                f"AI labels of {name}: agree with the {of['with']} on {share:.3f} [{low:.3f}, {high:.3f}] of "
                f"{of['num']} pairs ({found['pairs']} judged; position bias {found.get('position_bias', 0):+.2f})"
            )
    display.say(f"these numbers, and answers side by side: {output / FILE}")
    display.say(f"every step, samples, and the model as a Hugging Face directory, of each phase: {output}/PHASE/")


def _pm(value: Sequence[float], sign: str = "") -> str:
    return f"{value[0]:{sign}.2f}±{value[1]:.2f}"


def _percent(value: Sequence[float]) -> str:
    share, low, high = (100 * x for x in value)
    return f"{share:.0f}% [{low:.0f}, {high:.0f}]"


def _text(record: Record) -> str:
    return _text_of(record.columns.get("prompt", record.where))


def _text_of(value: Any) -> str:
    """Return a string, or the last message of a conversation, as text."""
    return value if isinstance(value, str) else str(value[-1]["content"])
