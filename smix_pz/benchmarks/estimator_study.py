"""``smix-pz study estimators``: bias and variance of every return estimator, exactly, on a small problem.

The problem is the m-step matrix game (SMIX paper, Figure 3) as a table. All courses of an episode are enumerated with
their probabilities under the behaviour, the package's own :class:`~smix_pz.algorithms.returns.ReturnEstimator` computes
the return of each, and mean and variance follow without sampling. The target policy is epsilon-greedy around the best
one, the behaviour likewise with more exploration, and value estimates are the target policy's values plus normal errors
that are drawn once and kept.

Writes ``report.html``, ``figures/`` and ``estimators.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from smix_pz.algorithms.returns import ESTIMATORS, Kind, ReturnEstimator
from smix_pz.algorithms.theory import FloatArray, TeamMDP, epsilon_greedy, optimal_values, policy_values
from smix_pz.benchmarks.report import Claim, ClaimsSection, FigureSection, Section, TextSection, write_report
from smix_pz.files import write_text
from smix_pz.provenance import git_commit, versions

GAMMA, STEPS, ERROR = 0.99, 5, 1.0
TARGET_EPSILON = 0.05
BEHAVIOURS = (0.05, 0.3, 1.0)
LAMBDAS = tuple(k / 10 for k in range(11))
COLOR, GREY = "#D55E00", "#b5b5b5"


def matrix_game(m: int = STEPS, gamma: float = GAMMA) -> TeamMDP:
    """The m-step matrix game as a table: state 0 is the start, then (step, branch) in the order of steps.

    The first joint action picks a branch, (0, 0) or (1, 1); only repeating it pays, and goes on; the last step of
    branch (0, 0) pays [[1, 1], [1, 4]].

    Raises:
        ValueError: m below 2.
    """
    if m < 2:
        raise ValueError(f"m is {m}; it should be 2 or more")
    n_states = 1 + 2 * (m - 1)
    transition, reward = np.zeros((n_states, 4, n_states)), np.zeros((n_states, 4))
    for branch, joint in ((0, 0), (1, 3)):
        reward[0, joint] = 1.0
        transition[0, joint, 1 + branch] = 1.0
        for step in range(1, m):
            state = 1 + 2 * (step - 1) + branch
            reward[state, joint] = 1.0
            if step < m - 1:
                transition[state, joint, state + 2] = 1.0
            elif branch == 0:
                reward[state] = [1.0, 1.0, 1.0, 4.0]
    return TeamMDP(transition, reward, gamma, 2, 2)


@dataclass(frozen=True)
class Courses:
    """Every course of an episode after one joint action in one state, padded: K courses of at most T steps.

    Attributes:
        probability: [K], given that beginning; states, joint: [K, T]; filled: [K, T].
    """

    probability: FloatArray
    states: np.ndarray
    joint: np.ndarray
    filled: np.ndarray


def courses(mdp: TeamMDP, mu: FloatArray, state: int, joint: int) -> Courses:
    """Enumerate what can follow joint action ``joint`` in ``state`` when the team plays mu [S, J]."""
    found = list(_onward(mdp, mu, state, joint))
    longest = max(len(path) for _, path in found)
    paths = np.zeros((len(found), longest, 2), dtype=np.int64)
    filled = np.zeros((len(found), longest), dtype=bool)
    for k, (_, path) in enumerate(found):
        paths[k, : len(path)], filled[k, : len(path)] = path, True
    return Courses(np.array([p for p, _ in found]), paths[..., 0], paths[..., 1], filled)


def _onward(mdp: TeamMDP, mu: FloatArray, state: int, joint: int) -> Iterator[tuple[float, list[tuple[int, int]]]]:
    onward = mdp.transition[state, joint]
    if (ends := 1.0 - float(onward.sum())) > 0:
        yield ends, [(state, joint)]
    for after in np.flatnonzero(onward):
        for choice in np.flatnonzero(mu[after]):
            for probability, path in _onward(mdp, mu, int(after), int(choice)):
                yield float(onward[after] * mu[after, choice] * probability), [(state, joint), *path]


def moments(
    estimator: ReturnEstimator, mdp: TeamMDP, q: FloatArray, pi: FloatArray, mu: FloatArray, played: Courses
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance, over the courses, of the return of their first step.

    Args:
        q: [D, S, J], D tables of value estimates; pi, mu: [S, J].

    Returns:
        Two arrays [D].
    """
    s, j = played.states, played.joint
    values = torch.from_numpy(q)
    taken = values[:, s, j]  # [D, K, T]
    expected = (values * torch.from_numpy(pi)).sum(-1)[:, s]
    trace = estimator.traces(torch.from_numpy(pi[s, j]), torch.from_numpy(mu[s, j])).expand_as(taken)
    v = taken if estimator.bootstrap == "taken" else expected
    filled = torch.from_numpy(played.filled).expand(taken.shape)
    over = filled & ~torch.cat((filled[..., 1:], torch.zeros_like(filled[..., :1])), -1)
    rewards = torch.from_numpy(mdp.reward[s, j]).expand_as(taken)
    v, taken, trace = (torch.cat((x[..., 1:], torch.zeros_like(x[..., :1])), -1) for x in (v, taken, trace))
    rewards, over, filled, v, taken, trace = (x[..., None] for x in (rewards, over, filled, v, taken, trace))
    returns = estimator(rewards, over, filled, v, mdp.gamma, taken, trace)[..., 0, 0].numpy()
    mean = returns @ played.probability
    return mean, np.square(returns - mean[:, None]) @ played.probability


def measure(rng: np.random.Generator, draws: int) -> dict[str, Any]:
    """Every estimator at every lambda (or n) and behaviour: root mean square bias over errors, and deviation.

    Returns:
        For each behaviour's epsilon and estimator: "at" (lambda, or n), and for value estimates with and without
        errors "bias" and "deviation" of the return of the best first joint action, in the rewards' unit.
    """
    mdp = matrix_game()
    best = optimal_values(mdp)
    pi = epsilon_greedy(best, TARGET_EPSILON, 2, 2)
    right = policy_values(mdp, pi)
    noisy = right + ERROR * rng.normal(size=(draws, *right.shape))
    first = int(best[0].argmax())
    found: dict[str, Any] = {"value": float(right[0, first]), "largest": float(np.abs(right).max()), "behaviour": {}}
    for epsilon in BEHAVIOURS:
        mu = epsilon_greedy(best, epsilon, 2, 2)
        played = courses(mdp, mu, 0, first)
        rows: dict[str, Any] = {}
        for kind in ESTIMATORS:
            probe = ReturnEstimator(kind)
            at = list(LAMBDAS) if probe.has_lambda else list(range(1, STEPS + 1)) if kind == "n-step" else [None]
            row: dict[str, Any] = {"at": at}
            for name, q in (("right values", right[None]), ("wrong values", noisy)):
                bias, deviation = [], []
                for value in at:
                    mean, variance = moments(_with(probe, value), mdp, q, pi, mu, played)
                    bias.append(float(np.sqrt(np.mean(np.square(mean - right[0, first])))))
                    deviation.append(float(np.sqrt(variance.mean())))
                row[name] = {"bias": bias, "deviation": deviation}
            rows[kind] = row
        found["behaviour"][str(epsilon)] = rows
    return found


def _with(estimator: ReturnEstimator, value: float | int | None) -> ReturnEstimator:
    if estimator.kind == "n-step":
        return ReturnEstimator("n-step", n_step=int(value or 1))
    return ReturnEstimator(estimator.kind, td_lambda=estimator.td_lambda if value is None else float(value))


def run_estimators(out: Path, *, seed: int = 0, quick: bool = False, command: str = "", console: Console) -> Path:
    """Compute everything, write the folder, print a table; returns the report's path.

    Args:
        seed: of the errors of the value estimates.
        quick: few errors.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; it should be 0 or more")
    draws = 20 if quick else 500
    found = {"seed": seed, "draws": draws, **measure(np.random.default_rng(seed), draws)}
    write_text(out / "estimators.json", json.dumps(found, indent=1) + "\n")
    sections: list[Section] = [TextSection("The problem", _PROBLEM.format(draws=draws))]
    sections += [
        FigureSection(kind, figure(kind, found), f"{ESTIMATORS[kind]}. {_CAPTION}", f"estimator_{kind}")
        for kind in ESTIMATORS
    ]
    sections.insert(1, ClaimsSection("What the numbers say", claims(found)))
    path = write_report(
        out, "Return estimators: bias and variance", sections,
        provenance={"seed": str(seed), "git commit": git_commit() or "not a checkout",
                    "package versions": ", ".join(f"{k} {v}" for k, v in versions().items())},
        command=command or "smix-pz study estimators",
        links={"numbers": "estimators.json"},
        summary="Every estimator of the package on the 5-step matrix game, by enumeration.",
    )  # fmt: skip
    console.print(_table(found))
    console.print(f"report: {path}", highlight=False, soft_wrap=True)
    return path


_PROBLEM = f"""The {STEPS}-step matrix game, gamma {GAMMA}. The target policy is epsilon-greedy around the best one with
epsilon {TARGET_EPSILON} for each agent; behaviour likewise with epsilon {", ".join(map(str, BEHAVIOURS))}. Measured is
the return of the best first joint action. "Right values" are the target policy's own; "wrong values" have independent
normal errors of standard deviation {ERROR}, drawn {{draws}} times and kept through an episode; bias is then the root
mean square over these draws.

All courses of an episode are enumerated, so there is no sampling error in any number."""
_CAPTION = "Coloured: this estimator; grey: the others. Behaviour epsilon 0.3."
_SHOWN = "0.3"


def figure(kind: Kind, found: Mapping[str, Any]) -> Figure:
    """Bias and standard deviation against lambda (or n), this estimator before the others."""
    rows = found["behaviour"][_SHOWN]
    drawn = Figure(figsize=(9.6, 3.2), layout="constrained")
    panels = [
        ("Bias, wrong values", "wrong values", "bias"),
        ("Bias, right values", "right values", "bias"),
        ("Standard deviation, wrong values", "wrong values", "deviation"),
    ]
    by_n = kind == "n-step"
    for axes, (title, values, what) in zip(drawn.subplots(1, 3), panels, strict=True):
        for other in [k for k in ESTIMATORS if k != kind] + [kind]:
            row, mine = rows[other], other == kind
            style = {"color": COLOR if mine else GREY, "linewidth": 2.4 if mine else 1.0, "zorder": 3 if mine else 1}
            y, x = row[values][what], row["at"]
            if x == [None]:
                axes.axhline(y[0], linestyle="--", **style)
            elif (other == "n-step") == by_n:
                axes.plot(x, y, marker="o" if by_n else None, **style)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("n" if by_n else "lambda")
        axes.set_ylabel("unit of the rewards" if what == "bias" and values == "wrong values" else "")
        axes.set_ylim(bottom=-0.05)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e9e9e9", linewidth=0.7)
    return drawn


def claims(found: Mapping[str, Any]) -> list[Claim]:
    """What is known of the estimators, decided from the numbers."""
    tiny = 1e-9 * found["largest"]

    def at(epsilon: float, kind: str, values: str, what: str, place: int = -1) -> float:
        return float(found["behaviour"][str(epsilon)][kind][values][what][place])

    lam = LAMBDAS.index(0.8)
    corrected = ("one-step", "q-lambda", "tree-backup", "retrace", "importance-sampling")
    unbiased = [
        max(found["behaviour"][e][kind]["right values"]["bias"]) for e in found["behaviour"] for kind in corrected
    ]
    smix = [at(e, "lambda", "right values", "bias", lam) for e in BEHAVIOURS]
    full = [at(e, "importance-sampling", "wrong values", "bias") for e in BEHAVIOURS]
    spread = [at(e, "importance-sampling", "wrong values", "deviation") for e in BEHAVIOURS]
    safe = [at(e, "retrace", "wrong values", "deviation") for e in BEHAVIOURS]
    one_step = at(0.3, "one-step", "wrong values", "bias")
    near, far = (at(e, "lambda", "wrong values", "bias", lam) for e in (BEHAVIOURS[0], BEHAVIOURS[-1]))

    def said(text: str, holds: bool, evidence: str) -> Claim:
        return Claim(text, "holds" if holds else "does not hold", evidence)

    return [
        said("One-step, Q(lambda), tree-backup, Retrace and importance sampling have no bias if the values are right",
             max(unbiased) < tiny, f"largest bias {max(unbiased):.1e}"),
        said("Importance sampling with lambda 1 has no bias whatever the values are", max(full) < tiny,
             f"largest bias {max(full):.1e}"),
        said("It pays with variance, which grows with exploration; Retrace's stays small",
             spread[-1] > spread[0] and safe[-1] < spread[-1],
             f"deviation at epsilon {BEHAVIOURS}: importance sampling {_list(spread)}, Retrace {_list(safe)}"),
        said("SMIX's return is biased even where the values are right, more so with more exploration",
             smix[0] < tiny and smix[0] < smix[1] < smix[2],
             f"lambda 0.8, behaviour epsilon {BEHAVIOURS}, target {TARGET_EPSILON}: bias {_list(smix)}"),
        said("With wrong values and a behaviour near the target, SMIX's bias is below that of one step",
             near < at(BEHAVIOURS[0], "one-step", "wrong values", "bias"),
             f"{near:.2f} against {one_step:.2f} at epsilon {BEHAVIOURS[0]}; {far:.2f} at epsilon {BEHAVIOURS[-1]}"),
    ]  # fmt: skip


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _table(found: Mapping[str, Any]) -> Table:
    table = Table("estimator", *(f"epsilon {e}: bias, deviation" for e in BEHAVIOURS), title="wrong values, lambda 0.8")
    for kind in ESTIMATORS:
        cells = []
        for epsilon in BEHAVIOURS:
            row = found["behaviour"][str(epsilon)][kind]
            place = LAMBDAS.index(0.8) if len(row["at"]) == len(LAMBDAS) else min(3, len(row["at"]) - 1)
            cells.append(", ".join(f"{row['wrong values'][what][place]:.2f}" for what in ("bias", "deviation")))
        table.add_row(kind, *cells)
    return table
