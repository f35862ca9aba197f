"""Records: one append-only JSON-lines file per run, and the reader that tolerates a torn last line.

A record's lines, in order:

======== ============================================================================================
kind     content
======== ============================================================================================
run      what made the numbers: algorithm, environment, engine, seed, resolved config, versions, commit
metrics  ``t_env`` (environment steps so far), ``step`` (the nominal point of the evaluation grid) and
         any of the standard metric names below
end      ``status`` ("finished"), ``t_env``, ``wall_seconds`` and, where the absolute metric was asked for,
         the best policy's ``absolute/return``, ``absolute/win_rate``, ... and its grid point ``absolute/step``
======== ============================================================================================

Standard metric names: ``eval/return`` (mean undiscounted return of the evaluation episodes),
``eval/return_std``, ``eval/win_rate`` (only where the environment reports ``battle_won``),
``eval/episode_length``, ``train/return``, ``train/episode_length``, ``train/loss``, ``train/grad_norm``,
``train/epsilon``, ``train/episodes``, ``train/updates``; of actor-critics (COMA) also ``train/policy_loss``,
``train/policy_grad_norm``, ``train/policy_entropy``.

A line is flushed as soon as it is written. A process that is killed while it writes leaves a torn last
line; the reader drops it. A record without an ``end`` line belongs to a run that did not finish.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from smix_pz.files import atomic_path
from smix_pz.labels import label

FORMAT = 1


@dataclass(frozen=True)
class RunRecord:
    """One run as read from disk.

    Attributes:
        run: the header: ``algorithm``, ``env``, ``env_kwargs``, ``engine``, ``seed``, ``config``, ``versions``, ...
        metrics: the metric lines in the order written, each with ``t_env`` and ``step``.
        finished: whether the run reached its end.
        end: the last line of a finished run, else empty.
        path: where it was read from.
    """

    run: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...] = ()
    finished: bool = False
    end: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def series(self, name: str, x: str = "step") -> tuple[list[float], list[float]]:
        """The points of one metric: (x values, metric values), for the lines that carry it."""
        rows = [row for row in self.metrics if row.get(name) is not None]
        return [float(row[x]) for row in rows], [float(row[name]) for row in rows]


class RecordWriter:
    """Appends to one run's record; ``metrics`` of an earlier attempt let a resumed run go on behind them."""

    def __init__(
        self, path: Path, run: Mapping[str, Any] | None = None, *, metrics: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Open ``path`` afresh with the header ``run``; or, with ``metrics``, make it hold just that header and those.

        In the second case what follows in the file is cut off, and a file that is missing or begins otherwise is
        written anew, so that the record always fits the state that the run goes on from.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        known = _line({"kind": "run", "format": FORMAT, **(run or {})})
        if metrics is None:
            self._file: FileIO = path.open("wb", buffering=0)
            self._write(known)
            return
        known += b"".join(_line({"kind": "metrics", **row}) for row in metrics)
        if not path.is_file() or path.read_bytes()[: len(known)] != known:
            with atomic_path(path) as temporary:
                temporary.write_bytes(known)
        self._file = path.open("r+b", buffering=0)
        self._file.truncate(len(known))
        self._file.seek(len(known))

    def metrics(self, t_env: int, step: int, values: Mapping[str, float]) -> None:
        """Append one line of metrics."""
        self._write(_line({"kind": "metrics", "t_env": int(t_env), "step": int(step), **values}))

    def end(self, t_env: int, **values: Any) -> None:
        """Mark the run finished, make that durable, and close the file."""
        self._write(_line({"kind": "end", "status": "finished", "t_env": int(t_env), **values}))
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close without marking the run finished."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        try:
            while line:  # without a buffer, which would be written again on closing; a write may be partial then
                line = line[self._file.write(line) :]
        except OSError as error:  # the system does not say of which file
            raise OSError(error.errno, f"cannot write to the record: {error.strerror}", str(self.path)) from error


def read_record(path: Path) -> RunRecord:
    """Read one record.

    Raises:
        ValueError: the file has no readable header, or was written by a newer format.
    """
    lines = list(_json_lines(path))
    if not lines or lines[0].get("kind") != "run":
        raise ValueError(f"{path} is not a run record: its first line should be a JSON object with kind 'run'")
    header = lines[0]
    if header.get("format", 0) > FORMAT:
        raise ValueError(f"{path} has record format {header['format']}; this version reads up to {FORMAT}")
    metrics = tuple(line for line in lines if line.get("kind") == "metrics")
    ends = [line for line in lines if line.get("kind") == "end"]
    return RunRecord(header, metrics, bool(ends), ends[-1] if ends else {}, path)


def read_records(folder: Path) -> list[RunRecord]:
    """Every record below ``folder``, in the order of their paths."""
    return [read_record(path) for path in sorted(folder.rglob("*.jsonl")) if path.stat().st_size > 0]


def _json_lines(path: Path) -> Iterable[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return  # torn by a kill while it was being written
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} holds a line that is not JSON: {line[:80]!r}") from error


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(plain(values), allow_nan=False, separators=(", ", ": ")).encode() + b"\n"


def plain(value: Any) -> Any:
    """JSON's own types only: arrays become lists, numbers that are not finite null (JSON has no word for them).

    What is none of these (a class, say) is there by its :func:`smix_pz.labels.label`.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else label(value)
