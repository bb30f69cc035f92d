"""What a recipe says: one model, and a list of phases, each of them data x reward x optimizer."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from alignlab.config.settings import Settings

Name = str


class NewModelSettings(Settings):
    """A small model built from a config with random weights, and a BPE tokenizer trained on the run's own text."""

    architecture: Literal["llama", "qwen3", "gemma", "gpt2"] = "llama"
    hidden_size: PositiveInt = 128
    num_layers: PositiveInt = 4
    num_heads: PositiveInt = 4
    vocab_size: PositiveInt = 4096
    context_length: PositiveInt = 1024
    initializer_range: PositiveFloat = 0.02
    """Standard deviation of the random weights; small models learn faster with 0.05."""


class LoRASettings(Settings):
    """A low-rank adapter for every trained model, on a frozen base (it wants the `peft` package)."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    """What the adapter adds is scaled by alpha / rank."""
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    """The ends of the names of the layers that get one, such as [q_proj, v_proj]."""


class ModelSettings(Settings):
    """The model that phases start from: a Hugging Face directory or hub id, or a new one."""

    path: str | None = None
    new: NewModelSettings | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that weights are kept in; bfloat16 loses small updates. Autocast is the optimizer's `precision`."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    gradient_checkpointing: bool = False
    trust_remote_code: bool = False
    lora: LoRASettings | None = None
    """Train adapters instead of whole models."""

    @model_validator(mode="after")
    def _one_of(self) -> "ModelSettings":
        if (self.path is None) == (self.new is None):
            raise ValueError("wants exactly one of `path` (a directory or hub id) and `new` (a small one is built)")
        return self


class DataSettings(Settings):
    """Rows for a phase. Keys that are not listed here belong to the source, and are checked by it."""

    model_config = ConfigDict(extra="allow")

    source: Name = "rows"
    weight: PositiveFloat = 1.0
    """In a mixture: how often this source is drawn from, relative to the others."""
    eval: NonNegativeFloat = 0.0
    """Rows held out for evaluation: a share below 1, or a number of rows. Rows of one prompt stay on one side."""
    split_seed: int = 0
    limit: PositiveInt | None = None
    """Read no more rows than this."""
    max_length: PositiveInt | None = None
    """Tokens a row, prompt and answer together; the model's context if it is not given."""
    overlong: Literal["error", "drop", "truncate_left"] = "error"
    bad_rows: Literal["error", "drop"] = "error"
    """Rows that cannot teach anything (chosen equals rejected, an empty answer): stop, or drop and count them."""
    allow: tuple[Literal["no_prompt"], ...] = ()


class RewardSettings(Settings):
    """One reward of a phase. Keys that are not listed here belong to the reward, and are checked by it."""

    model_config = ConfigDict(extra="allow")

    use: str
    """A registered reward, or `package.module:function`."""
    name: Name | None = None
    """What it is logged as; `use` if it is not given."""
    weight: float = 1.0
    timeout: PositiveFloat | None = None
    """Seconds that a call may take; after that the run stops with the reward's name."""
    concurrency: PositiveInt = 1
    """Calls at the same time: above 1, each gets a part of the rows, and a function that is not async a thread."""


class BestSettings(Settings):
    """The metric by which an evaluation is the best, named as in metrics.jsonl: `{min: eval/loss}`, for one."""

    min: Annotated[str, Field(pattern="^eval/")] | None = None
    max: Annotated[str, Field(pattern="^eval/")] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> "BestSettings":
        if (self.min is None) == (self.max is None):
            raise ValueError("wants exactly one of `min` and `max`, such as {min: eval/loss} or {max: eval/accuracy}")
        return self

    @property
    def metric(self) -> str:
        """Return the metric's name."""
        return str(self.min or self.max)


class OptimizerSettings(Settings):
    """The engine's part of a phase's `optimizer`; the other keys are the method's own."""

    method: Name
    algorithm: Name = "adamw"
    generator: Name = "torch"
    """What samples answers."""
    lr: PositiveFloat = 1e-4
    betas: tuple[NonNegativeFloat, NonNegativeFloat] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat | None = 1.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_steps: NonNegativeInt = 0
    steps: PositiveInt | None = None
    """Batches drawn in all. Give this or `epochs`."""
    epochs: PositiveFloat | None = None
    batch_size: PositiveInt = 32
    """Records a step (rows, pairs or prompts), whatever the microbatches are."""
    microbatch_tokens: PositiveInt = 16384
    """Tokens (padding included) in one forward pass; it changes memory and speed, never the result."""
    precision: Literal["fp32", "bf16"] = "fp32"
    eval_every: PositiveInt | None = None
    """Steps between evaluations; there is always one at the end."""
    save_every: PositiveInt | None = None
    """Steps between checkpoints; a tenth of the steps if it is not given."""
    keep_last: PositiveInt = 2
    """Checkpoints that are kept: the newest."""
    keep_best: BestSettings | None = None
    """Also save and keep the checkpoint of the best evaluation, by a metric: {min: eval/loss}, {max: eval/accuracy}."""
    export: Literal["last", "best"] = "last"
    """The model that the phase ends with: that of its last step, or the best one, by `keep_best`."""
    eval_limit: PositiveInt | None = None
    """Held-out rows that an evaluation looks at; all of them if it is not given."""
    log_samples: NonNegativeInt = 4
    """Answers written to samples.jsonl at each evaluation."""

    @model_validator(mode="after")
    def _one_of(self) -> "OptimizerSettings":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("wants exactly one of `steps` and `epochs`")
        if self.export == "best" and self.keep_best is None:
            raise ValueError("`export: best` wants `keep_best`, such as {min: eval/loss}")
        return self


class PhaseSettings(Settings):
    """One phase: a name, where it starts from, its data, rewards and optimizer."""

    name: Name = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    from_: Name | None = Field(default=None, alias="from")
    """The phase whose model this one starts from; the recipe's `model` if it is not given."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """The order of rows and all that is drawn at random; the recipe's if it is not given. Members of an ensemble want
    one each."""
    data: dict[str, Any] | list[dict[str, Any]] = {}
    """Laid over the recipe's `data`; a list is a mixture."""
    reward: list[RewardSettings] = []
    optimizer: dict[str, Any]
    """`OptimizerSettings` and the method's own settings, in one mapping."""


class ReportSettings(Settings):
    """How the phases are compared when all of them are done: answers to the held-out prompts, scored."""

    baseline: Name
    """The phase that the others are compared with (win rate, KL)."""
    phases: list[Name] = []
    """The policies compared; all phases that export one if it is not given."""
    reward: list[RewardSettings] = []
    """Scores shown as columns; the win rate is by the first."""
    data: dict[str, Any] = {}
    num_prompts: PositiveInt = 256
    generator: Name = "torch"
    max_new_tokens: PositiveInt = 64
    temperature: PositiveFloat = 1.0


class Recipe(Settings):
    """A whole recipe."""

    output: str
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    model: ModelSettings
    data: dict[str, Any] = {}
    """What every phase's `data` starts from."""
    plugins: list[Name] = []
    """Plugins that only hook in (wrap a stage, observe); those that are named elsewhere need no mention."""
    trackers: list[Name] = []
    phases: list[PhaseSettings] = Field(min_length=1)
    report: ReportSettings | None = None
