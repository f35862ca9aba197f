"""The theory study writes its files, the same numbers for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from smix_pz.benchmarks.theory_study import run_theory
from smix_pz.cli import main


def test_the_study_writes_its_files_and_repeats_its_numbers(tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    for name in ("one", "two"):
        path = run_theory(tmp_path / name, seed=3, quick=True, console=console)
    page = path.read_text()
    assert page.count("data:image/svg+xml") == 7 and "http://" not in page.replace("http://www.w3.org", "")
    assert len(list((tmp_path / "one" / "figures").glob("*.png"))) == 7
    first, second = ((tmp_path / name / "theory.json").read_bytes() for name in ("one", "two"))
    assert first == second
    found = json.loads(first)
    assert found["theorem_3"]["violations"] == 0
    assert found["theorem_3"]["largest_ratio"]["worst case"] > 0.999
    assert found["theorem_4"]["diverging_inside_the_region"] == 0
    assert sum(found["argmaxes"]["failures"]["monotonic"]["theorem_2"]) == 0
    assert sum(found["argmaxes"]["failures"]["unconstrained"]["theorem_2"]) > 0
    assert "agrees" in console.export_text()


def test_options_of_other_studies_are_refused() -> None:
    for words in (["study", "theory", "--runs", "3"], ["study", "matrix_game", "--quick"]):
        with pytest.raises(SystemExit):
            main(words)
