"""Turn pydantic's errors into plain words, with the place and the nearest right name."""

from collections.abc import Iterable, Mapping, Sequence, Set
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from alignlab.config.settings import Settings
from alignlab.config.yaml_lines import KeyPath, Positions, dotted
from alignlab.errors import RecipeError, did_you_mean

S = TypeVar("S", bound=Settings)

# pydantic's error types, up to their suffix (float_type, float_parsing), and what was wanted.
WANTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "at least {min_length} item(s)",
    "too_long": "at most {max_length} item(s)",
}

# What other libraries call it (TRL's and transformers' arguments), for whoever types that from habit.
ELSEWHERE = {
    "adam_beta1": "betas",
    "adam_beta2": "betas",
    "adam_epsilon": "eps",
    "cliprange": "clip_low",
    "cliprange_value": "value_clip",
    "eval_steps": "eval_every",
    "gradient_accumulation_steps": "microbatch_tokens",
    "init_kl_coef": "kl_coef",
    "learning_rate": "lr",
    "lr_scheduler_type": "schedule",
    "max_steps": "steps",
    "model_name_or_path": "path",
    "num_mini_batches": "minibatches",
    "num_ppo_epochs": "passes",
    "num_train_epochs": "epochs",
    "optim": "algorithm",
    "per_device_train_batch_size": "batch_size",
    "response_length": "max_new_tokens",
    "save_steps": "save_every",
}


def validate(cls: type[S], values: Mapping[str, Any], at: KeyPath, positions: Positions, also: Iterable[str] = ()) -> S:
    """Build settings from a mapping; every error of it in one RecipeError.

    `at` is where the mapping stands in the recipe. `also` names keys that may stand beside them, for suggestions.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        raise together(_explain_all(cls, error, at, positions, also)) from None


def together(errors: Sequence[RecipeError]) -> RecipeError:
    """Return one error that lists all of them."""
    if len(errors) == 1:
        return errors[0]
    return RecipeError(f"{len(errors)} things are wrong\n" + "\n".join(f"- {one}" for one in errors))


def _explain_all(
    cls: type[BaseModel], error: ValidationError, at: KeyPath, positions: Positions, also: Iterable[str]
) -> list[RecipeError]:
    # Where a value may be of several types, pydantic tries each of them and reports one error a type, all at the same
    # key: they become one "wanted this or that". If one type was right but for something further inside, only that
    # counts.
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors():
        by_path.setdefault(_keys(detail), []).append(detail)
    deepest = [p for p in by_path if not any(q != p and q[: len(p)] == p and _is_type(by_path[p]) for q in by_path)]
    return [_explain(cls, by_path[path], path, at, positions, also) for path in deepest]


def _keys(detail: ErrorDetails) -> KeyPath:
    """Return `loc` without the names of a union's branches, which are no keys of the recipe."""
    branches = ("dict[", "list[", "tuple[", "function-")
    return tuple(key for key in detail["loc"] if not (isinstance(key, str) and key.startswith(branches)))


def _is_type(details: Sequence[ErrorDetails]) -> bool:
    return all(detail["type"].endswith("_type") for detail in details)


def _explain(
    cls: type[BaseModel],
    details: Sequence[ErrorDetails],
    path: KeyPath,
    at: KeyPath,
    positions: Positions,
    also: Iterable[str],
) -> RecipeError:
    detail, whole = details[0], (*at, *path)
    name, came = whole[-1] if whole else "", detail.get("input")
    do = None
    if detail["type"] == "extra_forbidden":
        what = f"there is no setting {name!r}"
        do = _nearest_key(str(name), {*_known(cls, path[:-1]), *also})
    elif detail["type"] == "missing":
        what = f"{name!r} is missing"
    elif detail["type"] == "invalid_key":
        what = f"{name!r} is not text, and a key must be"
    elif detail["type"] == "value_error":
        what = f"{dotted(whole) or 'the recipe'} {detail['msg'].removeprefix('Value error, ')}"
    else:
        wanted = " or ".join(dict.fromkeys(_wanted(one) for one in details))
        what = f"{_named(name)} wants {wanted}, came {_shown(came)}"
        if detail["type"] == "literal_error" and isinstance(came, str):
            do = _nearest_choice(came, detail)
    return RecipeError(what, where=positions.where(whole), do=do)


def _named(name: str | int) -> str:
    """Return a key in quotes, or the number of an item; people count from 1."""
    return f"item {name + 1}" if isinstance(name, int) else repr(name)


def _shown(value: Any) -> str:
    """Return a value as recipes write it."""
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), f"{value!r:.80}")


def _wanted(detail: ErrorDetails) -> str:
    kind = detail["type"]
    words = WANTED.get(kind) or WANTED.get(kind.rpartition("_")[0]) or WANTED.get(kind.partition("_")[0])
    if words is None:
        return detail["msg"].removeprefix("Input should be ")
    limits = {key: f"{value:g}" if isinstance(value, float) else value for key, value in detail.get("ctx", {}).items()}
    return words.format(**limits)


def _nearest_key(came: str, known: Set[str]) -> str:
    """Return "did you mean 'lr'?" also for what another library calls it."""
    foreign = {name: ours for name, ours in ELSEWHERE.items() if ours in known}
    near = get_close_matches(came, [*known, *foreign], n=1, cutoff=0.8)
    return f"did you mean {foreign[near[0]]!r}?" if near and near[0] in foreign else did_you_mean(came, known)


def _nearest_choice(came: str, detail: ErrorDetails) -> str | None:
    """Return "did you mean 'x'?" if a choice is near; all of them stand in the message anyway."""
    choices = detail["ctx"]["expected"].replace(" or ", ", ").split(", ")
    hint = did_you_mean(came, [choice.strip("'") for choice in choices])
    return hint if hint.startswith("did you") else None


def _known(cls: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the keys of the settings at a path below `cls`."""
    for key in path:
        if isinstance(key, int) or key not in _by_alias(cls):
            continue
        inner = _settings_in(_by_alias(cls)[key])
        if inner is None:
            return []
        cls = inner
    return list(_by_alias(cls))


def _by_alias(cls: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in cls.model_fields.items()}


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class in an annotation such as `list[PhaseSettings]` or `NewModelSettings | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_settings_in(inner) for inner in getattr(annotation, "__args__", ()))
    return next((inner for inner in found if inner is not None), None)
