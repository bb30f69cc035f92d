"""`--set KEY=VALUE`: change a recipe before it is checked."""

from collections.abc import Sequence
from typing import Any

import yaml

from alignlab.config.yaml_lines import KeyPath, Positions, dotted, parse_value
from alignlab.errors import RecipeError, did_you_mean


def override(values: dict[str, Any], text: str, positions: Positions) -> None:
    """Apply one KEY=VALUE in place.

    KEY is a dotted path; an item of a list goes by its index or its `name`. Mappings that are missing or null are made.
    A key that no settings know is found later, when the recipe is checked, and is then said to come from `--set`.
    """
    where = f"--set {text}"
    key, equals, value_text = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set wants KEY=VALUE, came {text!r}", do="for example --set seed=1")
    try:
        value = parse_value(value_text)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value is not YAML: {value_text!r}", where=where, do="put it into quotes") from error
    target: Any = values
    path: KeyPath = ()
    top: tuple[KeyPath, Any] | None = None  # the outermost mapping that was made
    for part in parts[:-1]:
        step = _step(target, part, path, where)
        path = (*path, step)
        if isinstance(target, dict) and target.get(step) is None:
            target[step] = {}
            top = top or (path, target[step])
        target = target[step]
    last = _step(target, parts[-1], path, where)
    target[last] = value
    positions.set(*(top or ((*path, last), value)), text)


def _step(target: Any, part: str, path: KeyPath, where: str) -> str | int:
    """Return the key or index that a part of KEY stands for."""
    if isinstance(target, dict):
        return part
    if isinstance(target, list):
        return _index(target, part, path, where)
    raise RecipeError(f"{dotted(path)} is {target!r:.80}, which has no key {part!r}", where=where)


def _index(items: Sequence[Any], part: str, path: KeyPath, where: str) -> int:
    names = [item.get("name") for item in items if isinstance(item, dict)]
    if part in names:
        return next(i for i, item in enumerate(items) if isinstance(item, dict) and item.get("name") == part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    known = [str(name) for name in names if name is not None] or [str(i) for i in range(len(items))]
    raise RecipeError(f"{dotted(path)} has no item {part!r}", where=where, do=did_you_mean(part, known))
