"""The theory study writes its files, the same numbers for the same seed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from rich.console import Console

from smix_pz.benchmarks.theory_study import judge, run_theory
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
    verdicts = judge(found)
    # Each verdict follows from its numbers: change them, and it changes.
    for claim, spoil in {
        "theorem 1": lambda d: d["argmaxes"]["failures"]["monotonic"]["theorem_1"].append(1),
        "theorem 2": lambda d: d["argmaxes"]["failures"]["monotonic"]["theorem_2"].append(1),
        "theorem 3": lambda d: d["theorem_3"].update(violations=1),
        "theorem 4": lambda d: d["theorem_4"].update(diverging_inside_the_region=1),
        "smix converges": lambda d: d["theorem_4"]["diverging_share_outside"].update(smix=0.1),
        "stable point": lambda d: d["limits"]["control"]["to_q_star"].__setitem__(0, [1.0] * 3),
        "close policies": lambda d: d["exploration"].update(allowed=2.0),
        "large variance": lambda d: d["variances"]["returns_of_10_steps"]["importance"]["variance"].append(0.0),
        "costs": lambda d: d["costs"]["terms"]["smix"].append(10**6),
        "pi is impractical": lambda d: d["costs"]["terms"]["importance"].append(10**6),
    }.items():
        changed = copy.deepcopy(found)
        spoil(changed)
        assert judge(changed)[claim] != verdicts[claim], claim
        assert {k: v for k, v in judge(changed).items() if k != claim} == {
            k: v for k, v in verdicts.items() if k != claim
        }


def test_options_of_other_studies_are_refused() -> None:
    for words in (["study", "theory", "--runs", "3"], ["study", "matrix_game", "--seed", "3"]):
        with pytest.raises(SystemExit):
            main(words)
