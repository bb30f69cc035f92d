"""Trackers: where a run's numbers go beside metrics.jsonl."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from alignlab.errors import PluginError


class Tracker(Protocol):
    """What `register_trackers` registers: started once a run, told every step, finished at the end."""

    name: str

    def start(self, output: Path, manifest: Mapping[str, Any]) -> None:
        """Open what the tracker writes to."""
        ...

    def log(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Take the numbers of one step."""
        ...

    def finish(self) -> None:
        """Close it."""
        ...


class TensorBoard:
    """Event files below OUTPUT/tensorboard, a run for each phase."""

    name = "tensorboard"

    def start(self, output: Path, manifest: Mapping[str, Any]) -> None:
        """Remember where to write; a phase's writer is opened at its first step."""
        self._directory = output / self.name
        self._writers: dict[str, Any] = {}

    def log(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars."""
        from torch.utils.tensorboard import SummaryWriter

        if phase not in self._writers:
            self._writers[phase] = SummaryWriter(str(self._directory / phase), purge_step=step)
        for name, value in metrics.items():
            self._writers[phase].add_scalar(name, value, step)
        self._writers[phase].flush()  # what a kill loses of the steps before a checkpoint would never come again

    def finish(self) -> None:
        """Close the writers."""
        for writer in self._writers.values():
            writer.close()


class WandB:
    """Weights & Biases, if it is installed (`pip install alignlab[wandb]`)."""

    name = "wandb"

    def start(self, output: Path, manifest: Mapping[str, Any]) -> None:
        """Start a run that holds the manifest."""
        try:
            import wandb  # type: ignore[import-not-found, unused-ignore]  # an extra
        except ImportError as error:
            raise PluginError(
                "the tracker wandb needs a package that is not installed", do="pip install wandb"
            ) from error
        self._phases: set[str] = set()
        self._run = wandb.init(project="alignlab", dir=str(output), name=output.name, config=dict(manifest))

    def log(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log under "phase/metric", against the phase's own steps."""
        if phase not in self._phases:
            self._phases.add(phase)
            self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
        self._run.log({f"{phase}/{name}": value for name, value in metrics.items()} | {f"{phase}/step": step})

    def finish(self) -> None:
        """End the run."""
        self._run.finish()
