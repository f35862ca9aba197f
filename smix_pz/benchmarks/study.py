"""Running a study and writing its report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from smix_pz.benchmarks import plots, tables
from smix_pz.benchmarks.baselines import BaselineResult, play_baselines, read_baselines
from smix_pz.benchmarks.claims import decide
from smix_pz.benchmarks.expressivity import value_tables
from smix_pz.benchmarks.launch import run_local
from smix_pz.benchmarks.report import (
    ClaimsSection,
    FigureSection,
    Section,
    TableSection,
    TextSection,
    provenance,
    unfinished,
    write_report,
)
from smix_pz.benchmarks.suite import Job, Study, plan, records_of, remaining, save_study
from smix_pz.provenance import machine
from smix_pz.records import RunRecord

# A final return this far below the best one still counts as reaching it: returns are sums of float32 rewards.
_ROUNDING = 0.01


def run_study(
    study: Study, out: Path, *, workers: int | None = None, stack: int = 20, command: str = "", console: Console
) -> Path:
    """Run what is not yet done of a study, then write its report; returns the report's path.

    Args:
        out: the study's folder. Finished runs in it are kept, started stacks continue from their checkpoints.
        workers: processes; None: one for each core.
        stack: most seeds trained as one program.
        command: the command line that makes this, for the report.

    Raises:
        ValueError, TypeError: bad settings, before any work starts.
        RuntimeError: a job failed; the others were finished and are reported.
    """
    jobs = plan(study, out, stack=stack)
    left = remaining(jobs)
    save_study(study, out)
    n_runs = sum(len(job.config.seeds) for job in jobs)
    console.print(
        f"{study.title}: {n_runs} runs in {len(jobs)} jobs, {len(left)} to do, regime {study.regime}", highlight=False
    )
    started = time.perf_counter()
    play_baselines(study, out)
    try:
        run_local(_longest_first(left), workers)
    finally:
        seconds = time.perf_counter() - started
        console.print(f"wall time of training {seconds:.0f} s", highlight=False)
        path = report_study(study, out, jobs, command=command, seconds=seconds if left else None, console=console)
    return path


def report_study(
    study: Study, out: Path, jobs: Sequence[Job], *, command: str = "", seconds: float | None = None, console: Console
) -> Path:
    """Write the report from the records there are, print its table, and return its path."""
    groups: dict[str, list[RunRecord]] = {name: [] for name in study.algorithms}
    for job in jobs:
        if job.payoff is None:
            groups[job.config.algorithm] += records_of(job)
    started = [record for records in groups.values() for record in records if record.metrics]
    sections: list[Section] = []
    shown: list[tables.Table] = []
    if started:
        players = read_baselines(study, out)
        sections, summary = _curve_sections(study, groups, players)
        shown.append(summary)
        if players:
            table = tables.baseline_table(players)
            sections.append(TableSection("Scripted players on the same environment", table, "", "baselines"))
            shown.append(table)
    learned = value_tables(jobs)
    if learned:
        page, table = _expressivity_sections(learned)
        sections += page
        shown.append(table)
    if not sections:
        raise ValueError(f"{out} holds no records of {study.name} yet; run the study first")
    facts = provenance(started) if started else {}
    facts["regime"] = f"{study.regime} ({', '.join(f'{k} {v}' for k, v in study.regimes[study.regime].items())})"
    if seconds is not None:
        facts["wall time of this call"] = (
            f"{seconds:.0f} s on {machine()['cores']} cores, the expressivity page included"
        )
    path = write_report(
        out,
        study.title,
        sections,
        provenance=facts,
        command=command or f"smix-pz study {study.name}",
        warnings=unfinished(started),
        links={"records": "records/"},
    )
    for table in shown:
        # What a terminal has room for; the report has every column, and names the engine.
        console.print(table.without("engine", "area", "best", "missing", "seeds").to_rich())
    console.print(f"report: {path}", highlight=False, soft_wrap=True)
    return path


def _curve_sections(
    study: Study, groups: dict[str, list[RunRecord]], players: Sequence[BaselineResult]
) -> tuple[list[Section], tables.Table]:
    measure = study.metrics[0]
    returns = study.references()
    best = max(returns.values(), default=None) if measure == "eval/return" else None
    threshold = None if best is None else best - _ROUNDING
    first = next(iter(study.algorithms))
    summary = tables.summary_table(groups, measure, threshold, planned=study.seeds, title=study.title)

    def lines(metric: str) -> dict[str, float]:
        scripted = {player.name: player.metrics[metric] for player in players if metric in player.metrics}
        return {**(returns if metric == "eval/return" else {}), **scripted}

    started = {name: records for name, records in groups.items() if any(r.metrics for r in records)}
    sections: list[Section] = []
    if study.claims:
        sections.append(ClaimsSection("What the paper says, and what these runs say", _decide_all(study, groups)))
    for metric in study.metrics:
        main = metric == measure
        sections.append(
            FigureSection(
                "Learning curves" if main else f"Learning curves: {plots.METRIC_LABELS[metric]}",
                plots.learning_curves(started, metric, lines(metric), title=study.title, individual=False),
                plots.curve_caption(),
                "learning_curves" if main else f"learning_curves_{metric.rpartition('/')[2]}",
            )
        )
    sections += [
        FigureSection(
            "Where each run ended",
            plots.final_returns(started, measure, lines(measure)),
            plots.final_caption(),
            "final_returns",
        ),
        TableSection("Summary", summary, "", "summary"),
    ]
    if len(started) > 1 and all(any(r.finished for r in records) for records in started.values()):
        baseline = first if first in started else next(iter(started))
        table = tables.comparison_table(started, baseline, measure)
        sections.append(TableSection(f"Against {baseline}, at the end", table, "", "comparison"))
    return sections, summary


def _decide_all(study: Study, groups: dict[str, list[RunRecord]]) -> list[Any]:
    return [decide(claim, groups, study.metrics[0]) for claim in study.claims if claim["algorithm"] in groups]


def _expressivity_sections(learned: Sequence[tables.ValueTable]) -> tuple[list[Section], tables.Table]:
    table = tables.expressivity_table(learned)
    text = TextSection(
        "What each algorithm can represent",
        """The paper's Figure 2(b) orders the algorithms by the joint value functions they can represent. Here each
        one is trained on one-step games under uniformly random play, so that what it learns is a regression onto the
        payoff table, and the learned joint value of every joint action is put beside the truth.

        IQL has no joint value; shown is the mean of the agents' own values. For QTRAN the free joint value is shown;
        its greedy joint action comes from the agents' values, as in play. In a one-step game every return estimator
        gives the same target, so rows that share a mixer differ by replay size and chance alone.""",
    )
    figures: list[Section] = []
    for payoff in dict.fromkeys(t.payoff_name for t in learned):
        block = [t for t in learned if t.payoff_name == payoff]
        if block[0].truth.ndim == 2:
            figure = plots.value_tables(block, title=f"payoff table: {payoff}", max_columns=5)
            caption = "Rows are agent 1's action, columns agent 2's; the run with the median largest error is shown."
            figures.append(FigureSection(f"Payoff table {payoff!r}", figure, caption, f"values_{payoff}"))
    return [text, *figures, TableSection("Largest errors and greedy actions", table, "", "expressivity")], table


def _longest_first(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with the most work first, so that no long one is left alone at the end; QTRAN's updates are longest."""

    def work(job: Job) -> float:
        config = job.config
        episodes = config.steps / (1 if job.payoff else 3)
        updates = episodes / config.parallel_episodes * config.updates_per_group
        return updates * (1.5 if config.algorithm.startswith("qtran") else 1.0)

    return sorted(jobs, key=work, reverse=True)


def command_line(arguments: Sequence[str]) -> str:
    """The command as one would type it."""
    return shlex.join(["smix-pz", *arguments])
