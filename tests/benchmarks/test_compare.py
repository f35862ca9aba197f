"""Two folders side by side: matched by task and curve, settings told apart, engines never merged."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from made_runs import REAL, runs

from smix_pz.benchmarks.compare import compare, read_side
from smix_pz.cli import main
from smix_pz.records import RunRecord


def write(folder: Path, records: Sequence[RunRecord]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        lines = [{"kind": "run", "format": 1, **record.run}]
        lines += [{"kind": "metrics", **row} for row in record.metrics]
        lines += [{"kind": "end", "status": "finished", **record.end}] if record.finished else []
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"seed-{record.run['seed']:04d}.jsonl").write_text(text)


def cells(table: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.to_csv())))


X, Y = [0.9, 0.8, 1.0, 0.7, 0.9], [0.5, 0.8, 0.4, 0.6]


def test_a_study_against_a_plain_run(tmp_path: Path) -> None:
    write(tmp_path / "a" / "records" / "3m" / "smix", runs("smix", X, config={"steps": 40_000, "td_lambda": 0.8}))
    write(tmp_path / "a" / "records" / "3m" / "vdn", runs("vdn", X))
    write(tmp_path / "b", runs("smix", Y, config={"steps": 40_000, "td_lambda": 0.5}))
    found = compare(tmp_path / "a", tmp_path / "b")
    (row,) = cells(found.values)
    assert (row["task"], row["curve"], row["first_n"], row["second_n"]) == ("3m", "smix", "5", "4")
    assert float(row["difference"]) == pytest.approx(sum(X) / 5 - sum(Y) / 4)
    assert float(row["p"]) == pytest.approx(scipy.stats.mannwhitneyu(X, Y).statistic / 20)
    assert float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])
    settings = [(r["setting"], r["first"], r["second"], r["where"]) for r in cells(found.settings)]
    assert settings == [("td_lambda", "0.8", "0.5", "everywhere")]
    assert found.values.warnings == ("only in the first: vdn on 3m",)


def test_engines_are_shown_and_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "a", runs("smix", X))
    write(tmp_path / "b", runs("smix", Y, engine=REAL))
    (row,) = cells(compare(tmp_path / "a", tmp_path / "b").values)
    assert row["p"] == row["difference"] == "" and float(row["first"]) == pytest.approx(sum(X) / 5)
    assert "different engines, not compared" in row["remark"] and "smac 5.0.12" in row["remark"]
    # Within one folder, runs of two engines are no replications of each other.
    write(tmp_path / "c" / "records" / "3m" / "smix", [*runs("smix", X), *runs("smix", Y, engine=REAL)[4:]])
    mixed = [*runs("smix", X)[:2], *runs("smix", Y, engine=REAL)[2:]]
    write(tmp_path / "d", mixed)
    with pytest.raises(ValueError, match="mixes engine"):
        read_side(tmp_path / "d")


def test_few_and_unfinished_runs_are_said(tmp_path: Path) -> None:
    write(tmp_path / "a", runs("smix", X[:3]))
    write(tmp_path / "b", [*runs("smix", Y[:3]), *runs("smix", [0.1] * 4, finished=False)[3:]])
    found = compare(tmp_path / "a", tmp_path / "b")
    assert "too few runs to tell" in cells(found.values)[0]["remark"]
    assert found.values.warnings == ("second: smix on 3m: 1 of 4 runs unfinished",)


def test_nothing_in_common_and_nothing_there(tmp_path: Path) -> None:
    write(tmp_path / "a", runs("smix", X))
    write(tmp_path / "b", runs("qmix", Y))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"nothing to compare: .*smix on 3m; .*qmix on 3m"):
        compare(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="holds no records"):
        compare(tmp_path / "a", tmp_path / "empty")
    with pytest.raises(ValueError, match="no folder"):
        compare(tmp_path / "a", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="did you mean 'eval/win_rate'"):
        compare(tmp_path / "a", tmp_path / "a", "eval/winrate")


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", runs("smix", X))
    write(tmp_path / "b", runs("smix", Y))
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "t")])
    assert "What differs" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == [
        f"{name}.{ending}" for name in ("comparison", "differences") for ending in ("csv", "md", "tex")
    ]
