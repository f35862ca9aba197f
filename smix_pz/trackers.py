"""Where a run's evaluations go besides its record: TensorBoard, Weights & Biases, MLflow.

The record is the truth; a tracker is a view of it. Each is a small class with two methods, and its package is imported
only if it is asked for. A resumed run goes on in the tracker's own run; where a tracker cannot take back what was
logged beyond the checkpoint (W&B, MLflow), the same points are sent again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from smix_pz.config import TrainConfig
from smix_pz.jobs import job_folder, read_json, write_json
from smix_pz.records import plain


class Tracker(Protocol):
    """One run's place in a tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add metrics at environment step ``step``."""

    def close(self, *, finished: bool) -> None:
        """Send what is left; ``finished`` says whether the run has made its steps."""


class TensorBoard:
    """Event files in a folder beside the record, of its name."""

    def __init__(self, config: TrainConfig, header: Mapping[str, Any], record: Path, resumed_at: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(record.with_suffix("")), purge_step=resumed_at)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, finished: bool) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases. Project, mode and folder are W&B's own environment variables (WANDB_PROJECT, ...)."""

    def __init__(self, config: TrainConfig, header: Mapping[str, Any], record: Path, resumed_at: int | None) -> None:
        import wandb

        folder = record.parent / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        # The run's own identity, so that a resumed run is the same run there; "started" tells repetitions apart.
        key = json.dumps([header["config"], header["env"], header["seed"], header["started"]], sort_keys=True)
        self._run = wandb.init(
            id=hashlib.sha256(key.encode()).hexdigest()[:16],
            resume="allow",
            reinit="create_new",  # runs of a stack are open side by side
            dir=str(record.parent),
            name=run_name(header),
            group=f"{header['algorithm']} on {header['env']}",
            config={**plain(header["config"]), "seed": header["seed"]},
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


class MLflow:
    """A run of MLflow, in the experiment of the algorithm and environment. Its place is MLFLOW_TRACKING_URI."""

    def __init__(self, config: TrainConfig, header: Mapping[str, Any], record: Path, resumed_at: int | None) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        remembered = job_folder(config) / f"mlflow-{header['seed']:04d}.json"
        known = read_json(remembered) if resumed_at is not None else None
        if known is not None:
            self._id = str(known["run_id"])
            self._client.set_terminated(self._id, "RUNNING")
            return
        name = f"{header['algorithm']} on {header['env']}"
        experiment = self._client.get_experiment_by_name(name)
        where = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
        self._id = self._client.create_run(where, run_name=run_name(header)).info.run_id
        write_json(remembered, {"run_id": self._id})
        for key, value in {**plain(header["config"]), "seed": header["seed"]}.items():
            self._client.log_param(self._id, key, value)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._client.log_metric(self._id, name, float(value), step=step)

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


TRACKERS: dict[str, Callable[[TrainConfig, Mapping[str, Any], Path, int | None], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


def run_name(header: Mapping[str, Any]) -> str:
    """A run's name for people."""
    return f"{header['algorithm']}-{header['env']}-seed-{header['seed']:04d}"


def open_trackers(
    config: TrainConfig, header: Mapping[str, Any], record: Path, *, resumed_at: int | None = None
) -> list[Tracker]:
    """The trackers that a job asks for, for one of its runs.

    Args:
        record: path of the run's record.
        resumed_at: environment steps of a resumed run, None of a new one.

    Raises:
        ImportError: a tracker's package is not installed; the message says how to get it.
    """
    names = dict.fromkeys((*(("tensorboard",) if config.tensorboard else ()), *config.track))
    opened: list[Tracker] = []
    for name in names:
        try:
            opened.append(TRACKERS[name](config, header, record, resumed_at))
        except ImportError as error:
            raise ImportError(f"{name} is not installed: pip install 'smix-pz[{name}]'") from error
    return opened
