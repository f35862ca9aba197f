"""A study as a Slurm job array: one array task for each job that is left, found by its place in ``jobs.json``."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smix_pz.benchmarks.resources import need_of
from smix_pz.benchmarks.suite import Job, read_plan
from smix_pz.files import write_text
from smix_pz.jobs import job_folder

if TYPE_CHECKING:
    from smix_pz.benchmarks.launch import Launch

SCRIPT = "slurm/array.sbatch"

_TEMPLATE = """#!/bin/bash
# Written by smix-pz. Submit it from the study's folder, as often as is needed: what is done is skipped, what was
# stopped goes on from its last checkpoint.
#     cd {folder} && sbatch {script}
#SBATCH --job-name={name}
#SBATCH --array={array}
#SBATCH --cpus-per-task={threads}
#SBATCH --mem={memory}M
#SBATCH --output=slurm/%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
# Two minutes before the time limit the job is asked to stop, and writes a checkpoint.
#SBATCH --signal=B:TERM@120
{options}
# "exec" makes the signal reach the program itself. SMIX_PZ_PYTHON names the nodes' Python, if it is another.
exec "${{SMIX_PZ_PYTHON:-{python}}}" -m smix_pz.cli job . "$SLURM_ARRAY_TASK_ID"
"""


def write_array(jobs: Sequence[Job], out: Path, how: Launch) -> str:
    """Write the script for the jobs that are left, and say how it is submitted.

    Raises:
        ValueError: an option is not one of sbatch's, which begin with "--".
    """
    for option in how.slurm:
        if not option.startswith("-"):
            raise ValueError(f'{option!r} is no option of sbatch; expected something like "--partition=long"')
    left = {job_folder(job.config) for job in jobs}
    places = [k for k, job in enumerate(read_plan(out)) if job_folder(job.config) in left]
    options = [f"#SBATCH {option}" for option in how.slurm]
    if how.gpus:
        options.insert(0, f"#SBATCH --gpus-per-task={math.ceil(how.gpus)}")
    text = _TEMPLATE.format(
        folder=shlex.quote(str(out)),
        script=SCRIPT,
        name=f"smix-{out.resolve().name}",
        array=_ranges(places) + (f"%{how.workers}" if how.workers else ""),
        threads=max(job.config.threads for job in jobs),
        memory=math.ceil(1.2 * max(need_of(job.config).memory for job in jobs) / 2**20),
        options="\n".join(options),
        python=sys.executable,
    )
    write_text(out / SCRIPT, text)
    return (
        f"{len(places)} jobs: cd {shlex.quote(str(out))} && sbatch {SCRIPT}\n"
        f"then: smix-pz status {shlex.quote(str(out))}, and in the end smix-pz report {shlex.quote(str(out))}"
    )


def _ranges(places: Sequence[int]) -> str:
    """Numbers as sbatch writes them: 0-2,5."""
    parts: list[list[int]] = []
    for place in places:
        if parts and place == parts[-1][-1] + 1:
            parts[-1][1:] = [place]
        else:
            parts.append([place])
    return ",".join("-".join(map(str, part)) for part in parts)
