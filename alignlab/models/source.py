"""Where a model comes from: a directory or a hub id, and the config in it."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import transformers.utils.logging as hf_logging
from huggingface_hub import model_info, try_to_load_from_cache
from transformers import AutoConfig, PreTrainedConfig

from alignlab.errors import ModelError

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def find(path: str) -> str:
    """Return a directory (with `~` expanded) or a hub id that can be reached or is cached; else raise ModelError."""
    directory = Path(path).expanduser()
    if directory.is_dir():
        return str(directory)
    if directory.exists():
        raise ModelError("the model's path is a file; it has to be a directory", where=path, do="name its directory")
    if not HUB_ID.fullmatch(path):
        raise ModelError("there is no such model directory", where=path, do=_nearest(directory))
    if isinstance(try_to_load_from_cache(path, "config.json"), str):
        return path
    try:
        # Asked once and first: on a machine without network, transformers would retry each of its files for 20 s.
        model_info(path, timeout=10)
    except Exception as error:  # of the hub, or of whichever network library it uses
        raise ModelError(
            f"{path!r} is neither a directory nor a hub id that can be reached ({first_line(error)})",
            do=_nearest(directory)
            if directory.parent.is_dir()
            else "check the id and the network, or give a directory",
        ) from error
    return path


def _nearest(directory: Path) -> str:
    """Return what is there instead of a directory."""
    if not directory.parent.is_dir():
        return f"there is no {directory.parent} either; check the path"
    names = sorted(p.name for p in directory.parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    if near := get_close_matches(directory.name, names, n=1):
        return f"did you mean {str(directory.with_name(near[0]))!r}?"
    few = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"check the path; the directories in {directory.parent.resolve()}: {few or 'none'}"


def load_config(path: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """Load a model's config. Raises ModelError if there is none, or transformers does not understand it."""
    path = find(path)
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        raise ModelError(
            "the directory holds no config.json, so it is no model",
            where=path,
            do="name a directory as save_pretrained writes it",
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # a config can be wrong in as many ways as there are architectures
        raise ModelError(
            f"the model's config cannot be used: {first_line(error)}",
            where=f"{path}/config.json",
            do=_trust(error) or "restore the file; a new architecture may want a newer transformers",
        ) from error
    return config


def _trust(error: Exception) -> str | None:
    return "set model.trust_remote_code to true if you trust its code" if "trust_remote_code" in str(error) else None


def context_length(path: str, trust_remote_code: bool = False) -> int:
    """Return the tokens that a model can take, prompt and answer together."""
    return config_context(load_config(path, trust_remote_code))


def config_context(config: PreTrainedConfig) -> int:
    """Return the tokens that a model can take; sys.maxsize for an architecture without a limit."""
    text = config.get_text_config()
    return next((int(found) for name in CONTEXT_NAMES if (found := getattr(text, name, None))), sys.maxsize)


@contextmanager
def quiet(path: str = "") -> Iterator[None]:
    """Keep transformers' bars and loading report off the terminal; a download from the hub keeps its bars.

    Only these: what the report holds is checked by whoever loads, and other warnings get through.
    """
    logger = logging.getLogger("transformers.modeling_utils")
    bars = hf_logging.is_progress_bar_enabled() and (not path or Path(path).is_dir())
    logger.addFilter(_no_report)
    if bars:
        hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.removeFilter(_no_report)
        if bars:
            hf_logging.enable_progress_bar()


def _no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


@cache
def say_once(message: str) -> None:
    """Log a warning, once a process."""
    logging.getLogger("alignlab.models").warning("%s", message)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type if it has none."""
    return str(error).strip().split("\n")[0] or type(error).__name__
