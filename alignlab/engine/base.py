"""The model that phases start from: the recipe's path, or a new one built once in the run directory."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from alignlab.config.recipe import ModelSettings
from alignlab.engine.files import content, read_json, write_json
from alignlab.engine.plan import fingerprint
from alignlab.models import find, new_model


def prepare_base(
    settings: ModelSettings, corpus: Callable[[], Iterable[str]], directory: Path, seed: int
) -> tuple[str, str]:
    """Return the path or hub id that phases load, and a fingerprint of its content.

    A new model is built from the training rows' text, with random weights by seed; it is kept in `directory`, and built
    again only if the settings, the text or the seed changed.
    """
    if settings.new is None:
        assert settings.path is not None
        path = find(settings.path)
        return path, fingerprint(path, content(Path(path)))
    texts = list(corpus())
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    wanted = fingerprint(settings.new.model_dump(), digest, seed)
    about = directory / "alignlab.json"
    if not about.is_file() or read_json(about).get("fingerprint") != wanted:
        new_model(settings.new, texts, directory, seed)
        write_json(about, {"fingerprint": wanted})
    return str(directory), wanted
