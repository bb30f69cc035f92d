"""Check a recipe without training: settings, plugins, every data row, memory."""

import tempfile
from pathlib import Path

from alignlab.config import LoadedRecipe
from alignlab.data import corpus
from alignlab.engine.base import prepare_base
from alignlab.engine.display import Display
from alignlab.engine.making import is_made
from alignlab.engine.memory import GIB, estimate, model_size
from alignlab.engine.pipeline import Pipeline
from alignlab.errors import AlignlabError


def check(loaded: LoadedRecipe, display: Display | None = None) -> bool:
    """Print what was found, phase by phase; return whether all of them can run."""
    pipeline = Pipeline(loaded, display)
    say = pipeline.display.say
    for used in pipeline.plugins.used():
        say(f"plugin {used['kind']} {used['name']}: {used['distribution']} {used['version']}")
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        sources = pipeline.phases[0].sources
        base, _ = prepare_base(loaded.recipe.model, lambda: corpus(sources), Path(scratch), loaded.recipe.seed)
        size = model_size(base, loaded.recipe.model.trust_remote_code)
        say(f"model: {size.num_parameters:,} parameters, {size.num_layers} layers, vocabulary {size.vocab_size:,}")
        for phase in pipeline.phases:
            name = phase.settings.name
            sources = tuple(mixed for mixed in phase.sources if not is_made(mixed))
            for mixed in phase.sources:
                if is_made(mixed):
                    say(f"{name}: {mixed.source.name} makes its rows when the run gets there")
            if not sources:
                continue
            try:
                split = pipeline.split(sources, phase.method.rows, base, cache=None)
            except AlignlabError as error:
                say(f"{name}: {error}")
                good = False
                continue
            for line in str(split.summary).splitlines():
                say(f"{name}: {line}")
            for warning in phase.method.warnings():
                say(f"{name}: warning: {warning}")
            needed = estimate(size, phase.method.roles, loaded.recipe.model, phase.optimizer.microbatch_tokens)
            say(f"{name}: {phase.method.name}, about {needed / GIB:.2f} GiB of memory")
    say("all phases can run" if good else "some phases cannot run")
    return good
