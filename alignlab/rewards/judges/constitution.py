"""Constitutions: principles to compare, criticise and revise by (Bai et al., 2022, arXiv 2212.08073)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from alignlab.data.template import check_template, read_text
from alignlab.errors import AlignlabError, RecipeError, did_you_mean

DEFAULT_QUESTION = "Which answer is better?"
PLACES = ("prompt", "answer")  # what critique and revision requests may name
# What others call these keys.
KEYS: Mapping[str, tuple[str, ...]] = {
    "name": ("id", "title"),
    "question": ("comparison", "comparison_question", "preference", "prompt", "text", "principle"),
    "critique": ("critique_request", "critic", "critique_prompt"),
    "revision": ("revision_request", "edit_request", "revise", "revision_prompt", "edit"),
    "weight": (),
    "tags": ("tag", "categories", "category"),
}
KNOWN = {alias: key for key, aliases in KEYS.items() for alias in (key, *aliases)}


@dataclass(frozen=True)
class Principle:
    """One principle. A request that is empty is not asked."""

    name: str = ""
    question: str = DEFAULT_QUESTION
    critique: str = ""
    revision: str = ""
    weight: float = 1.0
    tags: tuple[str, ...] = ()


GENERAL = Principle()
"""No principle in particular."""


@dataclass(frozen=True)
class Example:
    """A worked example of criticising and revising, shown before the real thing."""

    prompt: str
    answer: str
    critique: str
    revision: str


@dataclass(frozen=True)
class Constitution:
    """Principles, and examples of their use."""

    principles: tuple[Principle, ...]
    examples: tuple[Example, ...]
    where: str

    def tagged(self, tags: tuple[str, ...], where: str) -> "Constitution":
        """Return the principles that have one of the tags. Raises RecipeError if none has."""
        kept = tuple(p for p in self.principles if not tags or set(tags) & set(p.tags))
        if not kept:
            known = {tag for p in self.principles for tag in p.tags}
            raise RecipeError(
                f"no principle has a tag of {', '.join(tags)}", where=where, do=did_you_mean(tags[0], known)
            )
        return Constitution(kept, self.examples, self.where)


def load_constitution(name: str) -> Constitution:
    """Read a YAML or JSON file: `principles` and `examples`, a list of principles, or a mapping from name to each.

    Keys may be those of published constitutions. Raises RecipeError with all that is wrong.
    """
    text = read_text(name)
    try:
        found = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        where = f"{name}, line {error.lineno}, column {error.colno}"
        raise RecipeError(f"the constitution is not JSON: {error.msg}", where=where) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        raise RecipeError(f"the constitution is not YAML: {getattr(error, 'problem', error)}", where=where) from None
    examples: Any = []
    if isinstance(found, Mapping) and "principles" in found:
        if unknown := sorted(set(map(str, found)) - {"principles", "examples"}):
            do = did_you_mean(unknown[0], ("principles", "examples"))
            raise RecipeError(f"a constitution has no {unknown[0]!r}", where=name, do=do)
        found, examples = found["principles"], found.get("examples") or []
    named = list(_named(found, name))
    if not named:
        raise RecipeError(
            "the constitution has no principles",
            where=name,
            do="list some: `principles: [{name: honest, question: Which answer is more honest?}]`",
        )
    wrong: list[AlignlabError] = []
    principles: list[Principle] = []
    for label, values in named:
        try:
            principles.append(_principle(label, values, f"{name}, principle {label!r}"))
        except RecipeError as error:
            wrong.append(error)
    if doubled := {p.name for p in principles if sum(p.name == q.name for q in principles) > 1}:
        wrong.append(RecipeError(f"two principles are called {min(doubled)!r}", where=name, do="rename one of them"))
    if wrong:
        raise wrong[0] if len(wrong) == 1 else RecipeError("\n".join(f"- {one}" for one in wrong), where=name)
    return Constitution(tuple(principles), tuple(_examples(examples, name)), name)


def _named(found: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield each principle with what to call it."""
    if isinstance(found, Mapping):
        yield from ((str(name), values) for name, values in found.items())
    elif isinstance(found, list):
        for number, values in enumerate(found, 1):
            known = values if isinstance(values, Mapping) else {}
            yield str(next((known[key] for key in ("name", *KEYS["name"]) if key in known), number)), values
    elif found is not None:
        do = "write a list of principles, or a mapping from name to principle"
        raise RecipeError(f"a constitution is no {type(found).__name__}", where=where, do=do)


def _principle(label: str, values: Any, where: str) -> Principle:
    if isinstance(values, str):
        values = {"question": values}
    if not isinstance(values, Mapping):
        raise RecipeError(f"a principle is no {type(values).__name__}", where=where, do="write text, or a mapping")
    keys = {KNOWN.get(str(key).lower()) for key in values}
    given: dict[str, Any] = {}
    for key, value in values.items():
        ours = KNOWN.get(str(key).lower())
        if key == "prompt" and "revision" in keys and "critique" not in keys:
            ours = "critique"  # the published files of Bai et al. call the critique request so
        if ours is None:
            raise RecipeError(f"a principle has no {key!r}", where=where, do=did_you_mean(str(key), KNOWN))
        if ours in given:
            raise RecipeError(f"{key!r} says `{ours}` a second time", where=where, do="take one of them out")
        given[ours] = value
    given["name"] = label
    texts = {}
    for key in ("name", "question", "critique", "revision"):
        value = given.get(key, "")
        if isinstance(value, list) and all(isinstance(one, str) for one in value) and value:
            value = value[0] if len(value) == 1 else " ".join(value)
        if not isinstance(value, str):
            raise RecipeError(f"`{key}` is a {type(value).__name__}, wanted text", where=where)
        texts[key] = value.strip()
    if not any(texts[key] for key in ("question", "critique", "revision")):
        do = "give it a `question`, or `critique` and `revision`"
        raise RecipeError("the principle asks for nothing", where=where, do=do)
    if bool(texts["critique"]) != bool(texts["revision"]):
        has, lacks = ("critique", "revision") if texts["critique"] else ("revision", "critique")
        raise RecipeError(f"the principle has `{has}` and no `{lacks}`", where=where, do=f"give it a `{lacks}` too")
    check_template(texts["question"], f"{where}, question", ())
    for key in ("critique", "revision"):
        check_template(texts[key], f"{where}, {key}", PLACES)
    weight, tags = given.get("weight", 1.0), given.get("tags", ())
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise RecipeError(f"`weight` is {weight!r:.40}, wanted a number above 0", where=where)
    tags = (tags,) if isinstance(tags, str) else tags
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise RecipeError(f"`tags` is {tags!r:.40}, wanted a list of texts", where=where)
    question = texts.pop("question") or DEFAULT_QUESTION
    return Principle(**texts, question=question, weight=float(weight), tags=tuple(tags))


def _examples(found: Any, where: str) -> Iterator[Example]:
    keys = {"prompt", "answer", "critique", "revision"}
    for number, one in enumerate(found if isinstance(found, list) else [found], 1):
        at = f"{where}, example {number}"
        if not isinstance(one, Mapping) or set(one) != keys or not all(isinstance(v, str) for v in one.values()):
            do = f"give it exactly {', '.join(sorted(keys))}, each of them text"
            raise RecipeError("this is no worked example", where=at, do=do)
        yield Example(**{key: str(value).strip() for key, value in one.items()})
