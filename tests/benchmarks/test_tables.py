"""Tables: every number recomputed by hand, every format read back, nothing missing left unsaid."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from smix_pz.benchmarks.table import Column, Table, number, ranges
from smix_pz.benchmarks.tables import ValueTable, comparison_table, expressivity_table, summary_table
from smix_pz.records import RunRecord


def run(algorithm: str, seed: int, values: list[float], engine: str = "toy 1", finished: bool = True) -> RunRecord:
    metrics = tuple({"t_env": 10 * k, "step": 10 * k, "eval/return": value} for k, value in enumerate(values))
    return RunRecord({"algorithm": algorithm, "env": "toy", "engine": engine, "seed": seed}, metrics, finished)


GROUPS = {
    "smix": [
        run("smix", 0, [0, 8, 8]),
        run("smix", 1, [2, 4, 8]),
        run("smix", 2, [0, 2, 5]),
        run("smix", 4, [0, 0, 7]),
    ],
    "qmix": [run("qmix", 0, [0, 5, 5]), run("qmix", 1, [0, 8], finished=False)],
}


def cells(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.to_csv())))


def test_summary_by_hand() -> None:
    smix, qmix = cells(summary_table(GROUPS, threshold=8, planned=range(5), interval="student"))
    finals = [8, 8, 5, 7]
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(finals), scipy.stats.sem(finals))
    assert (smix["algorithm"], smix["engine"], smix["finished"], smix["planned"]) == ("smix", "toy 1", "4", "5")
    assert [float(smix[k]) for k in ("final_mean", "final_low", "final_high")] == pytest.approx([7, low, high])
    assert [float(smix[k]) for k in ("final_median", "best", "worst")] == [7.5, 8, 5]
    assert (smix["solved"], smix["final_n"]) == ("2", "4")
    assert float(smix["area"]) == pytest.approx((16 + 14 + 7 + 7) / 12)
    assert (smix["steps_median"], smix["reached"], smix["unknown"]) == ("15.0", "2", "0")
    # The unfinished run has no final value and no area; it was seen to reach 8 on its way.
    assert (qmix["final_mean"], qmix["final_low"], qmix["final_n"], qmix["solved"]) == ("5.0", "", "1", "0")
    assert (qmix["finished"], qmix["reached"], qmix["runs"]) == ("1", "1", "2")


def test_missing_seeds_are_listed() -> None:
    table = summary_table(GROUPS, planned={"smix": range(5), "qmix": (0, 1)})
    assert [row["missing"] for row in table.rows] == ["no record: 3", "unfinished: 1"]
    assert "smix (toy 1): 4 of 5 planned runs finished; no record: 3" in table.warnings
    assert "qmix (toy 1): 1 of 2 planned runs finished; unfinished: 1" in table.warnings
    assert not summary_table({"smix": GROUPS["smix"]}).warnings


def test_a_group_without_records_keeps_its_row() -> None:
    table = summary_table({**GROUPS, "vdn": []}, threshold=8, planned=range(5))
    row = cells(table)[2]
    assert (row["algorithm"], row["finished"], row["planned"], row["final_mean"]) == ("vdn", "0", "5", "")
    assert row["missing"] == "no record: 0–4"
    with pytest.raises(ValueError, match="at least one run"):
        summary_table({"vdn": []})


def test_an_all_unfinished_group_does_not_end_early() -> None:
    """Its last point is not its final value: the grid is that of all runs on the engine."""
    groups = {"smix": GROUPS["smix"], "qmix": [run("qmix", s, [0, 8], finished=False) for s in range(3)]}
    assert cells(summary_table(groups))[1]["final_n"] == "0"


def test_engines_never_share_a_row() -> None:
    runs = [run("smix", 0, [0, 8]), run("smix", 1, [0, 6]), run("smix", 0, [0, 1, 2], engine="real 5")]
    rows = cells(summary_table({"smix": runs}))
    assert [(row["engine"], row["final_mean"], row["finished"]) for row in rows] == [
        ("toy 1", "7.0", "2"),
        ("real 5", "2.0", "1"),
    ]
    with pytest.raises(ValueError, match="engine 'toy 1' and 'real 5'"):
        comparison_table({"smix": runs, "qmix": GROUPS["qmix"]}, "qmix")


def test_the_bootstrap_warns_of_few_runs() -> None:
    assert any("too narrow" in note for note in summary_table(GROUPS).notes)
    assert not any("too narrow" in note for note in summary_table(GROUPS, interval="student").notes)


def test_planned_names_a_group_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="did you mean 'smix'"):
        summary_table(GROUPS, planned={"smixx": range(5)})


def test_comparison_by_mann_whitney() -> None:
    groups = {"smix": GROUPS["smix"], "qmix": [run("qmix", s, [0, 0, v]) for s, v in enumerate([5, 5, 8])]}
    (row,) = cells(comparison_table(groups, "qmix"))
    u = scipy.stats.mannwhitneyu([8, 8, 5, 7], [5, 5, 8]).statistic
    assert float(row["probability"]) == pytest.approx(u / 12)
    assert float(row["difference"]) == pytest.approx(1)
    assert float(row["low"]) <= u / 12 <= float(row["high"])
    with pytest.raises(ValueError, match="unknown baseline 'qmx'; did you mean 'qmix'"):
        comparison_table(groups, "qmx")


# --- formats ------------------------------------------------------------------------------------------------------

HOSTILE = Table(
    "a [bold]title[/bold]",
    (
        Column("name", ("name",), align="left"),
        Column("value [b]", ("a", "b"), lambda a, b: f"{a:.1f} [{b:.1f}]"),
    ),
    ({"name": "x|y\n<b>", "a": 1 / 3, "b": float("nan")}, {"name": "[red]z", "a": 2.0, "b": 1.0}),
    notes=("a note",),
    warnings=("a warning",),
)


def test_csv_reads_back_at_full_precision() -> None:
    first, second = cells(HOSTILE)
    assert float(first["a"]) == 1 / 3 and first["b"] == "" and first["name"] == "x|y\n<b>"
    assert second == {"name": "[red]z", "a": "2.0", "b": "1.0"}


def test_markdown_stays_a_table() -> None:
    lines = HOSTILE.to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4 and rows[1] == "| :-- | --: |"
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)
    assert "<" not in HOSTILE.to_markdown() and "a note" in lines and "**a warning**" in lines


def test_terminal_shows_brackets_as_they_are() -> None:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(HOSTILE.to_rich())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(text in shown for text in ("[bold]title", "[red]z", "2.0 [1.0]", "value [b]", "a warning", "a note"))


def test_save_writes_its_files_and_nothing_else(tmp_path: Path) -> None:
    paths = HOSTILE.save(tmp_path / "deep" / "v1.5")
    assert [path.name for path in paths] == ["v1.5.csv", "v1.5.md", "v1.5.tex"]
    assert sorted((tmp_path / "deep").iterdir()) == list(paths)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = HOSTILE.save(tmp_path / "a")
    before = [path.read_text() for path in paths]

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        dataclasses.replace(HOSTILE, rows=()).save(tmp_path / "a")
    assert [path.read_text() for path in paths] == before and sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.0, "8"), (0.5, "0.5"), (-0.001, "0"), (12345.678, "12,345.68"), (float("nan"), "–"), (100, "100")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seeds", "text"), [([], ""), ([3], "3"), ([1, 2], "1, 2"), ([9, 0, 1, 2, 4], "0–2, 4, 9"), (range(10), "0–9")]
)
def test_ranges(seeds: list[int], text: str) -> None:
    assert ranges(seeds) == text


# --- value tables -------------------------------------------------------------------------------------------------

TRUTH = np.array([[8.0, -12.0], [-12.0, 0.0]])


def test_expressivity_by_hand() -> None:
    learned = TRUTH + np.array([[[1, 0], [0, -3]], [[0, 0.5], [0, 0]]])
    table = expressivity_table([ValueTable("qmix", "climb", TRUTH, learned, ((1, 1), (0, 0)), (4, 7))])
    (row,) = cells(table)
    assert [float(row[k]) for k in ("error_mean", "error_worst", "greedy_payoff", "best_payoff")] == [1.75, 3, 4, 8]
    assert (row["optimal"], row["runs"], row["seeds"]) == ("1", "2", "4 7")


def test_a_value_table_of_one_run_and_three_agents() -> None:
    truth = np.arange(8.0).reshape(2, 2, 2)
    table = ValueTable("vdn", "cube", truth, truth + 1, ((1, 1, 1),))
    assert table.learned.shape == (1, 2, 2, 2) and table.seeds == (0,)
    assert table.errors.tolist() == [1] and table.optimal.tolist() == [True]


def test_every_best_joint_action_is_optimal() -> None:
    truth = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert ValueTable("vdn", "same", truth, np.zeros((2, 2, 2)), ((0, 0), (1, 1))).optimal.all()


@pytest.mark.parametrize(
    ("learned", "greedy", "seeds", "message"),
    [
        (np.zeros((3, 3)), ((0, 0),), (0,), "like the truth"),
        (np.zeros((2, 2, 2)), ((0, 0),), (0, 1), "2 runs, but 1 greedy"),
        (np.zeros((2, 2)), ((0, 2),), (0,), r"\(0, 2\) is outside"),
    ],
)
def test_a_value_table_refuses(
    learned: np.ndarray, greedy: tuple[tuple[int, ...], ...], seeds: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ValueTable("vdn", "climb", TRUTH, learned, greedy, seeds)


def test_columns_can_be_left_out_without_losing_rows() -> None:
    columns = (Column("a", ("a",)), Column("b [c]", ("b", "c"), lambda b, c: f"{b} [{c}]"))
    table = Table("t", columns, ({"a": 1, "b": 2, "c": 3},))
    assert table.without("c").header == ["a"] and list(table.without("c").text_rows()) == [["1"]]
    assert table.header == ["a", "b [c]"]
