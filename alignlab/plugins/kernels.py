"""Put a plugin's kernels where ops find them."""

from typing import Any

from alignlab.errors import PluginError
from alignlab.plugins.found import Found

_served: set[Any] = set()  # ops are the process's, not a run's: a second run finds the kernels there already


def serve(kernel: Any, found: Found) -> None:
    """Register a kernel with alignlab.ops. Raises PluginError if it is none, or its op or name cannot be taken."""
    from alignlab import ops  # not above: it imports torch, which `alignlab plugins` must not

    if not isinstance(kernel, ops.Kernel):
        raise PluginError(
            f"register_kernels of {found} returned {kernel!r:.80}", do="return alignlab.ops.Kernel objects"
        )
    if kernel in _served:
        return
    try:
        ops.register(kernel)
    except ValueError as error:
        raise PluginError(f"register_kernels of {found}: {error}", do=found.mend) from error
    _served.add(kernel)
