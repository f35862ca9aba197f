"""The paper's numbers beside ours: read from its text, recomputed by SciPy, and verdicts that follow the numbers."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import scipy.stats
from made_runs import run, runs

from smix_pz.benchmarks import paper
from smix_pz.benchmarks.claims import decide_over_tasks
from smix_pz.benchmarks.report import ClaimsSection, FigureSection, TableSection
from smix_pz.benchmarks.study import _in_short, _task_sections
from smix_pz.benchmarks.suite import load_study
from smix_pz.benchmarks.table import Table
from smix_pz.records import RunRecord

TEXTS = {"smix": "SMIX(λ)", "qmix": "QMIX"}
SPREAD = [0.0, 0.01, -0.01, 0.02, -0.02, 0.0]
Tasks = dict[str, dict[str, list[RunRecord]]]


def cells(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.to_csv())))


def tasks(smix: float, qmix: float, n: int = 6, map_name: str = "3s5z") -> Tasks:
    ours = {"smix": smix, "qmix": qmix}
    return {map_name: {k: runs(k, [v + d for d in SPREAD[:n]], map_name) for k, v in ours.items()}}


def test_the_numbers_are_the_papers() -> None:
    three, four = paper.paper_numbers("III"), paper.paper_numbers("IV")
    assert len(three) == 90 and len(four) == 6
    assert three["3s5z", "SMIX"] == paper.PaperCell(61, 11, 62) and three["MMM", "QTRAN"] == paper.PaperCell(4, 5, 3)
    assert four["25m", "SMIX"] == paper.PaperCell(75, 26, 93)
    # Table IV repeats two rows of Table III.
    assert all(four[key] == three[key] for key in four if key[0] != "25m")
    with pytest.raises(ValueError, match="known: III, IV"):
        paper.paper_numbers("II")


def test_the_papers_arrangement() -> None:
    made = {**tasks(0.5, 0.25), "3m": {"smix": runs("smix", [1.0, 0.5]), "qmix": []}}
    table = paper.paper_table(made, "III", TEXTS, title="t", planned=range(6), steps=40_000, paper_steps=1_000_000)
    rows = cells(table)
    assert [(r["task"], r["source"], r["statistic"]) for r in rows[:4]] == [
        ("3s5z", "ours", "mean (±std)"), ("3s5z", "ours", "median"),
        ("3s5z", "paper", "mean (±std)"), ("3s5z", "paper", "median"),
    ]  # fmt: skip
    assert float(rows[0]["smix"]) == pytest.approx(50) and rows[2]["smix"] == "61.0" and rows[3]["qmix"] == "11.0"
    assert float(rows[0]["smix_std"]) == pytest.approx(100 * np.std(SPREAD, ddof=1))
    assert rows[0]["engine"] == "smac_sim r1 liberty" and rows[2]["engine"] == "StarCraft II"
    # A missing run is counted, an algorithm without runs has a dash, and both are said aloud.
    assert (rows[4]["runs"], rows[4]["planned"], rows[4]["qmix"]) == ("0–2", "6", "")
    assert any("3m: qmix" in text and "0 of 6" in text for text in table.warnings)
    assert any("40,000 steps, the paper's 1,000,000" in note for note in table.notes)
    text = [row[3].replace("\N{NO-BREAK SPACE}", " ") for row in table.text_rows()]
    assert text[0] == "50 (±1)" and text[2] == "61 (±11)"


@pytest.mark.parametrize(
    ("smix", "qmix", "n", "verdict"),
    [(0.6, 0.2, 6, "agrees"), (0.2, 0.6, 6, "disagrees"), (0.5, 0.5, 6, "unknown"), (0.6, 0.2, 3, "unknown")],
)
def test_order_follows_both_numbers(smix: float, qmix: float, n: int, verdict: str) -> None:
    (row,) = cells(paper.order_table(tasks(smix, qmix, n), "III", TEXTS, comparable=True))
    assert row["verdict"] == verdict
    # Welch's interval of the paper's means, from ten numbers that have its means and standard deviations.
    shape = np.repeat([-1.0, 1.0], 5) / np.std(np.repeat([-1.0, 1.0], 5), ddof=1)
    wanted = scipy.stats.ttest_ind(61 + 11 * shape, 16 + 12 * shape, equal_var=False).confidence_interval(0.95)
    assert (float(row["paper_low"]), float(row["paper_high"])) == pytest.approx((wanted.low, wanted.high))
    assert float(row["ours"]) == pytest.approx(100 * (smix - qmix), abs=1)


def test_where_the_paper_tells_nothing_nothing_agrees() -> None:
    # COMA-R and COMA on 3s5z: 0 and 0.
    groups = {"coma-r": runs("coma-r", [0.9] * 6, "3s5z"), "coma": runs("coma", [0.1] * 6, "3s5z")}
    (row,) = cells(paper.order_table({"3s5z": groups}, "III", {"coma-r": "COMA-R", "coma": "COMA"}, comparable=True))
    assert row["verdict"] == "unknown"


def test_shorter_runs_test_nothing() -> None:
    for make in (paper.order_table, paper.level_table):
        table = make(tasks(0.6, 0.2), "III", TEXTS, comparable=False)
        assert set(paper.counts(table)) == set(paper.AGREEMENT)
        assert paper.counts(table)["not tested"] == len(table.rows) > 0


def test_levels() -> None:
    smix, qmix = cells(paper.level_table(tasks(0.61, 0.8), "III", TEXTS, comparable=True))
    # 61 against 61 (±11): the interval is about 8 points to either side. 80 against 16 is not the same.
    assert (smix["verdict"], qmix["verdict"]) == ("agrees", "disagrees")
    wide = {"3s5z": {"smix": runs("smix", [0.2, 0.9, 0.5, 0.8], "3s5z")}}
    assert cells(paper.level_table(wide, "III", TEXTS, comparable=True))[0]["verdict"] == "unknown"


def test_aggregates_leave_out_what_has_no_runs_on_every_task() -> None:
    made = {
        "3m": {"smix": runs("smix", [1, 1]), "qmix": runs("qmix", [0.5, 0.5])},
        "8m": {"smix": runs("smix", [0, 0])},
    }
    made["8m"]["qmix"] = [run("qmix", 0, [0.0], finished=False)]
    table = paper.aggregate_table(made, TEXTS)
    (row,) = cells(table)
    assert (row["algorithm"], float(row["mean"]), row["tasks"]) == ("SMIX(λ)", 0.5, "2")
    assert table.warnings == ("QMIX: no finished run on one task or more; left out of the numbers over all",)


# --- claims over several maps -------------------------------------------------------------------------------------

CLAIM = {"text": "smix is better", "algorithm": "smix", "over": ["qmix"], "measure": "final"}


def decide(made: Tasks, **options: int) -> str:
    return decide_over_tasks(CLAIM, made, "eval/win_rate", **options).verdict


def test_claims_over_maps() -> None:
    win, lose, even = tasks(0.6, 0.2), tasks(0.2, 0.6, map_name="3m"), tasks(0.5, 0.5, map_name="8m")
    assert decide(win) == "holds" and decide(lose) == "does not hold" and decide(even) == "undecided"
    assert decide({**win, **even}) == "holds in part" and decide({**win, **lose}) == "holds in part"
    assert decide({**lose, **even}) == "does not hold"
    assert decide(win, steps=20, paper_steps=40) == "not tested"
    assert decide(tasks(0.6, 0.2, n=3)) == "undecided"  # three runs against three cannot tell
    named = {**CLAIM, "maps": ["3s5z", "MMM"]}
    found = decide_over_tasks(named, win, "eval/win_rate")
    assert found.verdict == "holds in part" and "not run: MMM" in found.evidence
    assert decide_over_tasks({**CLAIM, "maps": ["MMM"]}, win).verdict == "not tested"


def test_a_named_rival_without_runs_keeps_a_claim_from_holding() -> None:
    claim = {**CLAIM, "over": ["qmix", "vdn"]}
    found = decide_over_tasks(claim, tasks(0.6, 0.2), "eval/win_rate")
    assert found.verdict == "holds in part" and "no finished runs of vdn" in found.evidence


# --- the whole page -----------------------------------------------------------------------------------------------


def test_a_task_without_wins_and_one_not_begun_keep_the_report_whole() -> None:
    texts = ("smix", "qmix")
    made = {
        "3m": {"smix": runs("smix", [0.9] * 6), "qmix": runs("qmix", [0.5] * 6)},
        "8m": {"smix": [RunRecord({**runs("smix", [1], "8m")[0].run})], "qmix": []},  # a header, no evaluation yet
        "mine": {"smix": [without_wins(r) for r in runs("smix", [0.5, 0.7])], "qmix": []},
    }
    study = load_study("table3", {"maps": ["3m", "8m"], "algorithms": texts, "runs": 6, "steps": 40_000,
                                  "tasks": {"mine": {"env": "matrix_game_v0"}}})  # fmt: skip
    sections, shown = _task_sections(study, made, {name: [] for name in made})
    tables = {section.name: section.table for section in sections if isinstance(section, TableSection)}
    assert [row["task"] for row in tables["summary"].rows] == ["3m", "3m"]
    assert "8m: no records" in tables["summary"].warnings
    assert [(row["task"], row["final_n"]) for row in tables["summary_return"].rows] == [("mine", 2), ("mine", 0)]
    assert {row["task"] for row in tables["paper_table_III"].rows} == {"3m", "8m"}
    figures = {section.name: section.figure for section in sections if isinstance(section, FigureSection)}
    titles = {name: [axes.get_title() for axes in figure.axes] for name, figure in figures.items()}
    assert titles["learning_curves"] == ["(a) 3m", "(b) 8m"]
    assert titles["learning_curves_return"] == ["(a) 3m", "(b) 8m", "(c) mine"]
    said = " ".join(_in_short(study, made, sections))
    assert "not tested" in said and len(shown) >= 2


def without_wins(record: RunRecord) -> RunRecord:
    rows = tuple({k: v for k, v in row.items() if k != "eval/win_rate"} for row in record.metrics)
    return RunRecord({**record.run, "env": "matrix_game_v0", "env_kwargs": {}}, rows, record.finished, record.end)


def test_quick_says_that_it_tells_nothing() -> None:
    study = load_study("table3", {"algorithms": ["smix", "qmix"], "maps": ["3m"]}, quick=True)
    made = {"3m": {name: runs(name, [0.5] * 3, every=study.steps // 2) for name in ("smix", "qmix")}}
    sections, _ = _task_sections(study, made, {"3m": []})
    first, *_ = _in_short(study, made, sections)
    assert "quick version" in first and "nothing about which algorithm is better" in first and "1,000,000" in first
    claims = [claim for section in sections if isinstance(section, ClaimsSection) for claim in section.claims]
    assert claims and {claim.verdict for claim in claims} == {"not tested"}
