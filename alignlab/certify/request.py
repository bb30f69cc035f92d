"""What is certified: a method with some settings, and how it is trained in the world."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ValidationError

from alignlab.config.recipe import OptimizerSettings
from alignlab.config.yaml_lines import parse_value
from alignlab.engine.roles import exported_role
from alignlab.errors import AlignlabError, RecipeError, did_you_mean
from alignlab.method import MethodSettings, Optimum
from alignlab.plugins import Plugins

FEEDBACK = {"rlaif": "dpo"}
"""What trains a method on pairs that `ai_feedback` makes, with a judge that knows the world."""

KINDS = {
    "completion": "demonstrations",
    "prompt": "prompts",
    "preference": "preferences",
    "ranked": "ranked",
    "label": "labels",
}
"""The world's rows for each row format."""

FEEDBACK_ROWS = {
    "source": "ai_feedback",
    "num_answers": 1024,
    "num_pairs": 25_600,  # with three prompts, about as many as are trained on
    "temperature": 2.0,  # rare answers are compared too
}

REFERENCE: dict[str, Any] = {
    "lr": 5e-3,
    "steps": 150,
    "batch_size": 256,
    "schedule": "cosine",
    "warmup_steps": 10,
    "log_samples": 1,
}
"""How the reference learns from demonstrations."""

OFFLINE: dict[str, Any] = {"lr": 5e-3, "steps": 300, "batch_size": 256, "schedule": "cosine", "warmup_steps": 10}
"""How a method is trained on rows; what it has of these settings."""

DEMONSTRATIONS: dict[str, Any] = {**OFFLINE, "steps": 400}
"""The same, of a method that learns from demonstrations."""

SCORES: dict[str, Any] = {**OFFLINE, "lr": 3e-3, "steps": 800}
"""The same, of a model that scores: one number has to hold what every letter is worth."""

ONLINE: dict[str, Any] = {
    "lr": 1e-3,
    "steps": 300,
    "warmup_steps": 60,  # the critic knows nothing at first, and what an answer loses then is not sampled again
    "num_samples": 64,
    "passes": 2,
    "minibatches": 2,
    "lam": 1.0,
    "vf_coef": 2.0,
    "value_clip": None,
    "whiten_advantages": False,  # at the optimum all advantages are 0, and whitening would make noise as large as 1
}
"""How a method that samples is trained; what it has of these settings."""

ALWAYS = {"soft_labels": True}


@dataclass(frozen=True)
class Request:
    """A method by its name, and the settings that differ from those below: its own, and the engine's."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tables call it, and what `parse` reads back."""
        text = ",".join(f"{key}={_text(value)}" for key, value in self.settings.items())
        return f"{self.name}:{text}" if text else self.name

    def with_steps(self, steps: int) -> "Request":
        """Return the same with so many steps, unless it says how many."""
        return Request(self.name, {"steps": steps, **self.settings})

    @property
    def slug(self) -> str:
        """A name for its directory."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.label).strip("-")

    @property
    def method(self) -> str:
        """The method that is trained."""
        return FEEDBACK.get(self.name, self.name)


def parse(text: str) -> Request:
    """Read `METHOD` or `METHOD:key=value,key=value`; values are YAML. Raises AlignlabError."""
    name, _, rest = text.partition(":")
    try:
        settings = parse_value("{" + re.sub(r"\s*=\s*", ": ", rest) + "}")
        if not name or (rest and not re.search("=", rest)):
            raise ValueError
    except (yaml.YAMLError, ValueError) as error:
        raise AlignlabError(
            f"cannot read {text!r}", do="write METHOD, or METHOD:key=value,key=value such as ppo:kl_in=loss"
        ) from error
    return Request(name, settings)


def _text(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("\n").removesuffix("\n...")


@dataclass(frozen=True)
class Resolved:
    """A request, with all that follows from the method."""

    request: Request
    method: MethodSettings
    optimizer: Mapping[str, Any]  # of the recipe
    optimum: Optimum | None
    beta: float  # of the method, or what stands for it where it has none


def resolve(request: Request, plugins: Plugins, max_new_tokens: int, beta: float) -> Resolved:
    """Resolve a request. Raises PluginError for an unknown method, RecipeError for settings that it does not take."""
    cls: type[MethodSettings] = plugins.get("method", request.method)
    known = {**cls.model_fields, **OptimizerSettings.model_fields}
    for key in request.settings:
        if key not in known:
            what = f"{request.method} has no setting {key!r}"
            raise RecipeError(what, where=request.label, do=did_you_mean(key, known))
    given = {key: value for key, value in request.settings.items() if key in cls.model_fields}
    asked = _made(cls, given, request)
    if asked.rows not in KINDS:
        raise RecipeError(f"there are no rows of format {asked.rows!r} in the world to certify", where=request.label)
    usual = {**_usual(asked), **ALWAYS, "max_new_tokens": max_new_tokens}
    given = {**{key: value for key, value in usual.items() if key in cls.model_fields}, **given}
    method = _made(cls, given, request)
    # A method whose settings promise nothing is still measured, at the beta that it would have.
    name = next((one.beta for one in (method.optimum, cls().optimum) if one is not None and one.beta), None)
    if name is not None and name not in request.settings:
        given[name] = beta
        method = _made(cls, given, request)
    engine = {
        key: value for key, value in {**usual, **request.settings}.items() if key in OptimizerSettings.model_fields
    }
    steps = engine["steps"]
    saves = {"save_every": max(steps // 10, 1), "keep_last": steps, "log_samples": 1}
    optimizer = {"method": request.method, **given, **saves, **engine}
    return Resolved(request, method, optimizer, method.optimum, beta if name is None else float(getattr(method, name)))


def _usual(method: MethodSettings) -> dict[str, Any]:
    """Return how a method is trained if its request does not say."""
    if method.roles[exported_role(method.roles)].head == "scalar":
        return SCORES
    return {"prompt": ONLINE, "completion": DEMONSTRATIONS}.get(method.rows, OFFLINE)


def _made(cls: type[MethodSettings], given: Mapping[str, Any], request: Request) -> MethodSettings:
    try:
        return cls(**given)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise RecipeError(f"{at + ': ' if at else ''}{first['msg']}", where=request.label) from error
