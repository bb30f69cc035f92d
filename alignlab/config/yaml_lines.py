"""Read YAML and keep where every key stands."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alignlab.errors import RecipeError, did_you_mean

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML with YAML 1.2's scalars: `1e-5` is a number; `no`, `1:30` and `2024-01-01` are text."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back as the same value: text that looks like one of its numbers is quoted."""


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][\d_]*|0x[\da-fA-F_]+|0o[0-7_]+)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?|[-+]?\d[\d_]*[eE][-+]?\d+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
_MERGE = "tag:yaml.org,2002:merge"
_REPLACED = {f"tag:yaml.org,2002:{name}" for name in (*_SCALARS, "timestamp")}
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _name, (_pattern, _first) in _SCALARS.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass
class Positions:
    """Which line of a recipe, or which `--set`, every key comes from."""

    file: str
    lines: dict[KeyPath, int] = field(default_factory=dict)  # counted from 1
    overrides: dict[KeyPath, str] = field(default_factory=dict)
    inherited: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def set(self, path: KeyPath, value: Any, override: str) -> None:
        """Note that a key, with all below it, comes from a `--set` from now on."""
        for old in [old for old in self.lines if old[: len(path)] == path]:
            del self.lines[old]
        for old in [old for old in self.overrides if old[: len(path)] == path]:
            del self.overrides[old]
        self._note(path, value, override)

    def _note(self, path: KeyPath, value: Any, override: str) -> None:
        self.overrides[path] = override
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                self._note((*path, key), inner, override)

    def inherit(self, path: KeyPath, source: KeyPath) -> None:
        """Note that a key which `path` (or an item of it) does not have comes from `source`."""
        self.inherited[path] = source

    def where(self, path: KeyPath) -> str:
        """Return "FILE, line N: a.b[2].c", with the line of the nearest key that is there; or the `--set`."""
        path = self._origin(path)
        for end in range(len(path), -1, -1):
            if path[:end] in self.overrides:
                inside = f": {dotted(path)}" if end < len(path) else ""
                return f"--set {self.overrides[path[:end]]}{inside}"
            if path[:end] in self.lines:
                return f"{self.file}, line {self.lines[path[:end]]}: {dotted(path)}"
        return f"{self.file}: {dotted(path)}" if path else self.file

    def _origin(self, path: KeyPath) -> KeyPath:
        """Return where a key stands that may be inherited."""
        for heir, source in self.inherited.items():
            if path[: len(heir)] != heir or len(path) == len(heir):
                continue
            start = len(heir) + isinstance(path[len(heir)], int)  # an item of a list inherits as the whole does
            own, theirs = path[: start + 1], (*source, *path[start : start + 1])
            if not self._stands(own) and self._stands(theirs):
                return (*source, *path[start:])
        return path

    def _stands(self, path: KeyPath) -> bool:
        return path in self.lines or path in self.overrides


def dotted(path: KeyPath) -> str:
    """Return a key path as people write it: phases[0].optimizer.lr."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def read_yaml(path: Path) -> tuple[dict[str, Any], Positions]:
    """Return a recipe's mapping and the line of each key. Raises RecipeError."""
    text = _read(path)
    positions = Positions(str(path))
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            raise RecipeError("the recipe is empty", where=str(path), do="see the README for one to start from")
        _walk(node, (), positions)
        values = parse_value(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"the recipe is not YAML: {error.problem}", where=f"{path}{at}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"the recipe is not YAML: {error}", where=str(path)) from error
    except RecursionError:
        raise RecipeError("the recipe holds an anchor (&) inside itself", where=str(path)) from None
    if not isinstance(values, Mapping):
        raise RecipeError(f"a recipe is a mapping of keys, and this is {values!r:.80}", where=str(path))
    return dict(_apart(values)), positions


def _apart(value: Any) -> Any:
    """Copy what an anchor (&) lets stand in several places, so that `--set` changes the one that it names."""
    if isinstance(value, dict):
        return {key: _apart(part) for key, part in value.items()}
    return [_apart(part) for part in value] if isinstance(value, list) else value


def parse_value(text: str) -> Any:
    """Return the value of a whole file, or of a `--set`."""
    return _Loader(text).get_single_data()


def write_yaml(values: Mapping[str, Any]) -> str:
    """Return YAML that `read_yaml` reads back as equal values."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"the recipe is not text in UTF-8: {error}", where=str(path)) from error
    except OSError as error:
        directory = path if path.is_dir() else path.parent
        near = [str(p) for pattern in ("[!.]*.yaml", "[!.]*.yml") for p in directory.glob(pattern)]
        hint = did_you_mean(str(path), near) if near else "name a YAML file, such as recipes/hh.yaml"
        raise RecipeError(f"the recipe cannot be read: {error.strerror}", where=str(path), do=hint) from error


def _walk(node: yaml.Node, path: KeyPath, positions: Positions) -> None:
    """Note the line of every key and item; a key that stands twice is an error."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        # What is merged in (<<) comes first, so that a key of the mapping's own has its own line.
        for key, value in sorted(node.value, key=lambda pair: bool(pair[0].tag != _MERGE)):
            name, line = key.value, key.start_mark.line + 1
            if key.tag == _MERGE:
                _walk(value, path, positions)
                continue
            if key.tag != "tag:yaml.org,2002:str":
                where = f"{positions.file}, line {line}: {dotted(path)}".removesuffix(": ")
                raise RecipeError("a key must be text", where=where, do="put it into quotes")
            if name in seen:
                raise RecipeError(
                    f"{name!r} stands twice, in lines {seen[name]} and {line}",
                    where=f"{positions.file}, line {line}: {dotted((*path, name))}",
                    do="remove one of them",
                )
            seen[name] = line
            positions.lines[(*path, name)] = line
            _walk(value, (*path, name), positions)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            positions.lines[(*path, index)] = value.start_mark.line + 1
            _walk(value, (*path, index), positions)
