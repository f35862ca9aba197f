"""Running a study and writing its report."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from smix_pz.benchmarks import paper, plots, tables
from smix_pz.benchmarks.baselines import BaselineResult, play_baselines, read_baselines
from smix_pz.benchmarks.claims import decide_over_tasks
from smix_pz.benchmarks.expressivity import value_tables
from smix_pz.benchmarks.launch import Launch, launch
from smix_pz.benchmarks.marl_eval import write_marl_eval
from smix_pz.benchmarks.report import (
    Claim,
    ClaimsSection,
    CurvesSection,
    FigureSection,
    Section,
    TableSection,
    TextSection,
    provenance,
    unfinished,
    viewer_data,
    write_report,
)
from smix_pz.benchmarks.suite import Job, Study, plan, records_of, remaining, save_study, write_plan
from smix_pz.benchmarks.table import Table
from smix_pz.provenance import machine
from smix_pz.records import RunRecord

Tasks = dict[str, dict[str, list[RunRecord]]]  # task -> curve -> runs; "" is the one task of a study without others

# A final return this far below the best one still counts as reaching it: returns are sums of float32 rewards.
_ROUNDING = 0.01


class NothingToReport(ValueError):
    """A study's folder holds no records yet."""


def run_study(
    study: Study,
    out: Path,
    *,
    workers: int | None = None,
    stack: int = 20,
    how: Launch | None = None,
    command: str = "",
    console: Console,
) -> Path | None:
    """Run what is not yet done of a study, then write its report; returns the report's path.

    Slurm runs jobs later: as long as any is left, its script is written, but no report, and None is returned.

    Args:
        out: the study's folder. Finished runs in it are kept, started stacks continue from their checkpoints.
        workers: jobs at a time; None: as many as cores and memory allow.
        stack: most seeds trained as one program.
        how: where jobs run; None: in processes of this machine.
        command: the command line that makes this, for the report.

    Raises:
        ValueError, TypeError: bad settings, before any work starts.
        RuntimeError: a job failed; the others were finished and are reported.
    """
    left = remaining(plan(study, out, stack=stack))  # everything is checked before the folder is touched
    study = save_study(dataclasses.replace(study, command=command or study.command), out)
    jobs = plan(study, out, stack=stack)
    left = remaining(jobs)
    write_plan(jobs, out)
    how = how or Launch(workers=workers)
    n_runs = sum(len(job.config.seeds) for job in jobs)
    small = ", quick version" if study.scale == "quick" else ""
    console.print(
        f"{study.title}: {n_runs} runs in {len(jobs)} jobs, {len(left)} to do, preset {study.preset}{small}",
        highlight=False,
    )
    if how.launcher == "slurm" and left:
        launch(left, out, how, console)
        return None
    started = time.perf_counter()
    play_baselines(study, out)

    def report() -> Path:
        seconds = time.perf_counter() - started
        console.print(f"wall time of training {seconds:.0f} s", highlight=False)
        return report_study(study, out, jobs, command=command, seconds=seconds if left else None, console=console)

    try:
        launch(_longest_first(left), out, how)
    except BaseException:
        # What is there is reported; what stopped the study is what is said, also if that was before its first record.
        with suppress(NothingToReport):
            report()
        raise
    return report()


def report_study(
    study: Study, out: Path, jobs: Sequence[Job], *, command: str = "", seconds: float | None = None, console: Console
) -> Path:
    """Write the report from the records there are, print its table, and return its path."""
    tasks: Tasks = {task.name: {v.name: [] for v in study.variant_list()} for task in study.task_list()}
    for job in jobs:
        if job.payoff is None:
            tasks[job.task][job.variant] += records_of(job)
    started = [r for groups in tasks.values() for records in groups.values() for r in records if r.metrics]
    sections: list[Section] = []
    shown: list[Table] = []
    if started:
        players = {task.name: read_baselines(study, task, out) for task in study.task_list()}
        sections, summaries = _task_sections(study, tasks, players)
        shown += summaries
        for name, results in players.items():
            if results:
                table = tables.baseline_table(results)
                where = f" on {name}" if name else " on the same environment"
                sections.append(
                    TableSection(f"Scripted players{where}", table, "", f"baselines{'_' + name if name else ''}")
                )
                shown.append(table)
    learned = value_tables(jobs)
    if learned:
        page, table = _expressivity_sections(learned)
        sections += page
        shown.append(table)
    if not sections:
        raise NothingToReport(f"{out} holds no records of {study.name} yet; run the study first")
    facts = provenance(started) if started else {}
    facts["preset"] = f"{study.preset}" + (", quick version" if study.scale == "quick" else "")
    facts["settings"] = ", ".join(f"{key} {value}" for key, value in study.settings.items()) or "the package's own"
    if seconds is not None:
        facts["wall time of this call"] = f"{seconds:.0f} s on {machine()['cores']} cores" + (
            ", the expressivity page included" if study.expressivity else ""
        )
    links: dict[str, str | Path] = {"records": "records/"}
    if any(record.finished for record in started):
        write_marl_eval(tasks, out / "marl_eval.json")
        links["marl-eval's JSON"] = "marl_eval.json"
    path = write_report(
        out,
        study.title,
        sections,
        provenance=facts,
        command=command or study.command or f"smix-pz study {study.name}",
        warnings=unfinished(started),
        links=links,
        summary=_in_short(study, tasks, sections),
    )
    for table in shown:
        # What a terminal has room for; the report has every column, and names the engine.
        console.print(
            table.without("engine", "area", "best", "worst", "final_std", "final_iqm", "missing", "seeds").to_rich()
        )
    console.print(f"report: {path}", highlight=False, soft_wrap=True)
    return path


def _task_sections(
    study: Study, tasks: Tasks, players: Mapping[str, Sequence[BaselineResult]]
) -> tuple[list[Section], list[Table]]:
    """Claims first, then what is compared with the paper, figures and the viewer, and the tables behind them."""
    measure = study.metrics[0]
    claims = [ClaimsSection("What the paper says, and what these runs say", _decide_all(study, tasks))]
    sections: list[Section] = [*claims] if study.claims else []
    texts = {variant.name: variant.text for variant in study.variant_list()}
    viewer = CurvesSection(
        "Curves, to explore",
        "Choose a task and curves; the table follows the pointer. It works without a network.",
        viewer_data(tasks, study.metrics, texts, _styles(study)),
    )
    if list(tasks) == [""]:
        page, summary = _curve_sections(study, tasks[""], players[""])
        return [*sections, page[0], viewer, *page[1:]], [summary]
    short = study.steps < study.paper_steps
    shown: list[Table] = []
    for metric in study.metrics:
        main = metric == measure
        name = "learning_curves" if main else f"learning_curves_{metric.rpartition('/')[2]}"
        what = "" if main else f": {plots.METRIC_LABELS[metric]}"
        there = _carrying(tasks, metric)
        if not there:
            continue
        panels, columns = _panels(study, there)
        figure = plots.curve_panels(panels, metric, columns=columns)
        sections.append(FigureSection(f"Learning curves{what}", figure, plots.curve_caption(), name))
        if main:
            sections.append(viewer)
    measured = _carrying(tasks, measure)
    if study.paper_table and measured:
        table = paper.paper_table(
            measured, study.paper_table, texts, title=f"Win rates after {study.steps:,} steps, and the paper's Table "
            f"{study.paper_table}", planned=study.seeds, steps=study.steps, paper_steps=study.paper_steps,
        )  # fmt: skip
        sections.append(
            TableSection(f"The paper's Table {study.paper_table}", table, "", f"paper_table_{study.paper_table}")
        )
        for make, name in ((paper.order_table, "order"), (paper.level_table, "level")):
            found = make(measured, study.paper_table, texts, comparable=not short)
            if found.rows:
                sections.append(TableSection(found.title, found, "", name))
    if measured:
        threshold = 0.5 if measure == "eval/win_rate" else None
        summary = paper.tasks_table(measured, measure, threshold, planned=study.seeds, title=study.title)
        sections.append(TableSection("Every task and algorithm", summary, "", "summary"))
        shown.append(summary)
    rest = {name: groups for name, groups in tasks.items() if name not in measured}
    if rest:
        title = f"Return of greedy play on tasks without {measure.rpartition('/')[2].replace('_', ' ')}"
        summary = paper.tasks_table(rest, "eval/return", None, planned=study.seeds, title=title)
        sections.append(TableSection(title, summary, "", "summary_return"))
        shown.append(summary)
    if len(measured) > 1 and measure == "eval/win_rate":
        over = paper.aggregate_table(measured, texts, measure)
        if over.rows:
            scores, _ = paper.complete_scores(measured, list(texts), measure)
            figure = plots.profiles(scores, _styles(study), texts)
            caption = "Share of all runs, over all tasks, that end above each win rate; 95% stratified bootstrap bands."
            sections += [
                TableSection("Over all tasks", over, "", "aggregate"),
                FigureSection("Performance profiles", figure, caption, "profiles"),
            ]
            shown.append(over)
    return sections, shown


def _carrying(tasks: Tasks, metric: str) -> Tasks:
    """The tasks whose runs have this metric (some environments report no wins), and those not yet begun."""
    kept: Tasks = {}
    for name, groups in tasks.items():
        runs = [record for records in groups.values() for record in records]
        if any(record.series(metric)[0] for record in runs):
            kept[name] = groups
        elif not any(record.metrics for record in runs):
            kept[name] = {curve: [] for curve in groups}
    return kept


def _panels(study: Study, tasks: Tasks) -> tuple[list[plots.CurvePanel], int]:
    """(panels in the paper's order, panels in a row); a task that has several panels gets a row of its own."""
    groups_of = study.panel_list()
    made = []
    for task, groups in tasks.items():
        for panel in groups_of:
            title = f"{task}: {panel.title}" if panel.title else task
            styles = (
                plots.panel_styles(panel.curves) if len(groups_of) == 1 else plots.sequence_styles(list(panel.curves))
            )
            runs = {name: groups[name] for name in panel.curves}
            made.append(plots.CurvePanel(title, runs, styles, panel.curves, _missing(runs, len(study.seeds))))
    return made, len(groups_of) if len(groups_of) > 1 else 3


def _missing(groups: Mapping[str, Sequence[RunRecord]], planned: int) -> str:
    finished = sum(record.finished for records in groups.values() for record in records)
    wanted = planned * len(groups)
    return "" if finished == wanted or not finished else f"{finished} of {wanted} runs"


def _styles(study: Study) -> dict[str, plots.LineStyle]:
    return plots.panel_styles(study.algorithms) if study.task_list()[0].name else plots.styles_for(study.algorithms)


def _in_short(study: Study, tasks: Tasks, sections: Sequence[Section]) -> list[str]:
    """Plain sentences on what these runs can tell, for the top of the page; every number is counted from the tables."""
    said = []
    if study.scale == "quick":
        said.append(
            f"This is the study's quick version: {study.runs} runs of {study.steps:,} steps"
            + (f", where the paper has runs of {study.paper_steps:,}" if study.paper_steps > study.steps else "")
            + ". It shows that everything works and what the report looks like. It says nothing about which algorithm "
            "is better, and nothing about the paper."
        )
    verdicts = Counter(
        claim.verdict for section in sections if isinstance(section, ClaimsSection) for claim in section.claims
    )
    if verdicts:
        said.append(
            "Claims of the paper: " + ", ".join(f"{verdict} {count}" for verdict, count in verdicts.items()) + "."
        )
    words = {
        "order": "Differences between a method and its original in the paper's table",
        "level": f"Win rates of the paper's table (within {paper.SAME_LEVEL:.0f} points)",
    }
    for section in sections:
        if isinstance(section, TableSection) and section.name in words:
            found = {verdict: count for verdict, count in paper.counts(section.table).items() if count}
            said.append(f"{words[section.name]}: " + ", ".join(f"{v} {count}" for v, count in found.items()) + ".")
    return said


def _curve_sections(
    study: Study, groups: dict[str, list[RunRecord]], players: Sequence[BaselineResult]
) -> tuple[list[Section], Table]:
    """A study of one task."""
    measure = study.metrics[0]
    returns = study.references()
    best = max(returns.values(), default=None) if measure == "eval/return" else None
    threshold = None if best is None else best - _ROUNDING
    first = next(iter(groups))
    summary = tables.summary_table(groups, measure, threshold, planned=study.seeds, title=study.title)

    def lines(metric: str) -> dict[str, float]:
        scripted = {player.name: player.metrics[metric] for player in players if metric in player.metrics}
        return {**(returns if metric == "eval/return" else {}), **scripted}

    started = {name: records for name, records in groups.items() if any(r.metrics for r in records)}
    sections: list[Section] = []
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


def _decide_all(study: Study, tasks: Tasks) -> list[Claim]:
    """Verdicts on the claims whose algorithm, and one rival at least, are part of the study."""
    chosen, measured = set(study.algorithms), _carrying(tasks, study.metrics[0])
    return [
        decide_over_tasks(claim, measured, study.metrics[0], steps=study.steps, paper_steps=study.paper_steps)
        for claim in study.claims
        if claim["algorithm"] in chosen and chosen & set(claim.get("over", chosen)) - {claim["algorithm"]}
    ]


def _expressivity_sections(learned: Sequence[tables.ValueTable]) -> tuple[list[Section], Table]:
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
