"""Two ranks of one run: `python -m alignlab.testing.two_ranks SPEC`, processes that are forked once all is imported."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from alignlab import builtin
from alignlab.config import load_recipe
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.plugins import Plugins
from alignlab.testing.subject import load_class


def main(spec: dict[str, Any]) -> int:
    """Run a recipe on two ranks; return the exit code of the worse one."""
    plugins = Plugins(builtin)
    if spec["source"] is not None:
        plugins.offer("method", load_class(spec["source"]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    child = os.fork()
    rank = "0" if child else "1"
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    code = 1
    try:
        Pipeline(load_recipe(spec["recipe"]), Display(Console(quiet=True)), plugins).run()
        code = 0
    except Exception as error:
        print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    if child:
        _, status = os.waitpid(child, 0)
        code = code or os.waitstatus_to_exitcode(status)
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
