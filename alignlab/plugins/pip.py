"""pip, in the environment that alignlab runs in."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alignlab.errors import PluginError
from alignlab.plugins.found import current

ELSEWHERE = ("-t", "--target", "--prefix", "--root", "--user", "--dry-run", "--report", "--python")
LINES = 15  # of what pip said, in an error: the cause is at its end


def check_options(options: Sequence[str]) -> None:
    """Raise PluginError for what would let pip install into another place than this environment, or not at all."""
    for option in options:
        if option.partition("=")[0] in ELSEWHERE:
            raise PluginError(
                f"pip's {option} cannot be used here: plugins go into the environment of alignlab itself",
                where=sys.prefix,
                do="leave it out, or call pip yourself",
            )


def pip(command: str, *arguments: str) -> str:
    """Run a pip command and return what it printed. Raises PluginError with the end of what it said if it fails."""
    if find_spec("pip") is None:
        raise PluginError("this environment has no pip", where=sys.prefix, do=f"{sys.executable} -m ensurepip")
    whole = [sys.executable, "-m", "pip", command, "--disable-pip-version-check", "--no-input", *arguments]
    if sys.stderr.isatty():  # builds and downloads take their time
        print(f"pip {' '.join([command, *arguments])}", file=sys.stderr)
    done = subprocess.run(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        said = "\n".join(done.stdout.strip().splitlines()[-LINES:])
        old = "no such option" in said
        raise PluginError(
            f"`pip {' '.join([command, *arguments])}` failed; nothing was changed. It said:\n{said}",
            do=f"{sys.executable} -m pip install -U pip (22.2 or later)" if old else None,
        )
    return done.stdout


@contextmanager
def staged(requirements: Sequence[str], options: Sequence[str]) -> Iterator[tuple[Path, list[Distribution]]]:
    """Install into a directory of its own, without dependencies, and give it with the distributions that are there.

    What they hold can be read there, and nothing in the environment has changed. Raises PluginError if pip fails.
    """
    with TemporaryDirectory(prefix="alignlab-plugins-") as directory:
        pip("install", "--quiet", "--no-deps", "--no-compile", "--target", directory, *options, *requirements)
        yield Path(directory), current([directory])


def planned(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Return what `pip install` would install, dependencies too: the items of its installation report."""
    with TemporaryDirectory(prefix="alignlab-plugins-") as directory:
        report = Path(directory) / "report.json"
        pip("install", "--quiet", "--dry-run", "--report", str(report), *arguments)
        items: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return items


def requirement(item: dict[str, Any]) -> str:
    """Return the requirement that stands for exactly one item of a report."""
    name, info = item["metadata"]["name"], item["download_info"]
    if not item.get("is_direct"):
        return f"{name}=={item['metadata']['version']}"
    vcs = info.get("vcs_info")
    return f"{name} @ {vcs['vcs']}+{info['url']}@{vcs['commit_id']}" if vcs else f"{name} @ {info['url']}"
