# ruff: noqa: E501  (a claim and its evidence are read as whole sentences)
"""``smix-pz study theory``: the paper's claims of sections III to V beside what tables and enumeration say.

Writes ``report.html`` (self-contained), ``figures/``, ``theory.json`` (every number; equal for equal seeds) and
``timings.json`` (measured seconds, which are not).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from smix_pz.algorithms import theory
from smix_pz.benchmarks import theory_numbers as numbers
from smix_pz.benchmarks.report import Claim, ClaimsSection, FigureSection, Section, TextSection, write_report
from smix_pz.files import write_text
from smix_pz.provenance import git_commit, machine, versions

# How a verdict of the report is called in the terminal's table.
WORDS = {"holds": "agrees", "holds in part": "agrees in part", "does not hold": "contradicted"}
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"


def run_theory(out: Path, *, seed: int = 0, quick: bool = False, command: str = "", console: Console) -> Path:
    """Compute everything, write the folder, print the claims; returns the report's path.

    Args:
        seed: entropy of the ``numpy.random.SeedSequence`` from which each part has its own stream.
        quick: small sizes, for a look within seconds.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; it should be 0 or more")
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
    # One thread: operations this small are slower on more, and times should not depend on the machine's cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        terms, timings = numbers.costs(streams[5], 5 if quick else 8, 3 if quick else 9)
    finally:
        torch.set_num_threads(threads)
    found: dict[str, Any] = {
        "seed": seed,
        "quick": quick,
        "theorem_3": numbers.theorem_3(streams[0], 60 if quick else 1000),
        "theorem_4": numbers.theorem_4(streams[1], 9 if quick else 25, 6 if quick else 40),
        "limits": numbers.limits(streams[2], 4 if quick else 30),
        "exploration": numbers.exploration_distance(),
        "argmaxes": numbers.argmaxes(streams[3], 50 if quick else 500),
        "variances": numbers.variances(streams[4], 5000 if quick else 100_000),
        "costs": terms,
    }
    write_text(out / "theory.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "timings.json", json.dumps(timings, indent=1) + "\n")
    sections, claims = _sections(found, timings)
    about = {"seed": str(seed), "sizes": "quick" if quick else "full", "git commit": git_commit() or "not a checkout"}
    about["package versions"] = ", ".join(f"{k} {v}" for k, v in versions().items())
    about["machine"] = ", ".join(f"{k} {v}" for k, v in machine().items())
    path = write_report(
        out,
        "The theory, run",
        sections,
        provenance=about,
        command=command or "smix-pz study theory",
        links={"numbers": "theory.json", "timings": "timings.json"},
        summary="What the SMIX paper proves or argues in sections III to V, on tables small enough to be exact.",
    )
    table = Table("claim", "verdict")
    for claim in claims:
        table.add_row(claim.text, WORDS.get(claim.verdict, "unknown"))
    console.print(table)
    console.print(f"report: {path}", highlight=False, soft_wrap=True)
    return path


def judge(found: Mapping[str, Any]) -> dict[str, str]:
    """Verdict of each claim, decided from the numbers alone: (holds as it stands, holds in a weaker form) -> words."""
    argmaxes, theorem_4, limits = found["argmaxes"], found["theorem_4"], found["limits"]
    failures = {name: {key: sum(row) for key, row in rows.items()} for name, rows in argmaxes["failures"].items()}
    monotonic, idle = failures["monotonic"], failures["idle agent"]
    smix_converges = theorem_4["diverging_share_outside"]["smix"] == 0
    gaps = [float(np.median(row)) for row in limits["control"]["to_q_star"]]
    without_exploration = [gap for gap, e in zip(gaps, limits["control"]["epsilon"], strict=True) if e == 0]
    variance = {name: row["variance"][-1] for name, row in found["variances"]["returns_of_10_steps"].items()}
    terms = found["costs"]["terms"]
    exponential = {name: row[-1] > 2 * row[-2] for name, row in terms.items()}  # doubled by one more agent
    allowed, one_agent = found["exploration"]["allowed"], found["exploration"]["distance"]["0.05"][0]
    decided = {
        "theorem 1": (monotonic["theorem_1"] == idle["theorem_1"] == 0, monotonic["theorem_1"] == 0),
        "theorem 2": (monotonic["theorem_2"] == idle["theorem_2"] == monotonic["corollary_1"] == 0, False),
        "theorem 3": (found["theorem_3"]["violations"] == 0, False),
        "theorem 4": (theorem_4["diverging_inside_the_region"] == 0, False),
        # As it stands: to the target's values too.
        "smix converges": (smix_converges and np.median(limits["fixed"]["to_q_pi"][-1]) < 0.01, smix_converges),
        "stable point": (max(gaps) < 0.01, max(without_exploration) < 0.01),
        "close policies": (one_agent <= allowed, False),
        "large variance": (variance["importance"] > 10 * variance["smix"], False),
        "costs": (
            exponential["q_lambda"] and exponential["q_lambda, greedy"] and not exponential["smix"],
            exponential["q_lambda"] and not exponential["smix"],
        ),
        "pi is impractical": (exponential["importance"], False),
    }
    return {
        name: "holds" if whole else "holds in part" if part else "does not hold"
        for name, (whole, part) in decided.items()
    }


def _sections(found: Mapping[str, Any], timings: Mapping[str, Any]) -> tuple[list[Section], list[Claim]]:
    t3, t4, arg, var = found["theorem_3"], found["theorem_4"], found["argmaxes"], found["variances"]
    lim, explore, fails = found["limits"], found["exploration"], found["argmaxes"]["failures"]
    cases = arg["draws"] * len(arg["agents"])
    total = {name: {key: sum(row) for key, row in rows.items()} for name, rows in fails.items()}
    control = np.median(lim["control"]["to_q_star"], axis=1)
    epsilons = lim["control"]["epsilon"]
    ratio = t3["largest_ratio"]
    slowest = {k: v[-1] / timings["seconds"]["smix"][-1] for k, v in timings["seconds"].items()}
    last = timings["agents"][-1]
    sampled, exact = var["product"]["sampled"]["10"][-1], var["product"]["exact"]["10"][-1]
    verdicts = judge(found)
    blocks: list[tuple[str, str, Figure, str, list[Claim]]] = [
        (
            "Theorems 1 and 2: greedy agents and the greedy team", "theory_argmax", _argmax_figure(arg),
            "Share of random draws in which a statement fails, by enumeration of all joint actions of the package's mixers "
            "(random parameters, 3 actions each). Idle agent: monotonic, with no weight on agent 0.",
            [
                Claim("Theorem 1: an agent's argmax is its part of the joint argmax (equation 2)", verdicts["theorem 1"],
                      f"Failures of the monotonic mixer: {total['monotonic']['theorem_1']} of {cases}. But assumption 1 allows a slope of 0, and then the two sides differ as sets: {total['idle agent']['theorem_1']} of {cases} with an idle agent. Equality needs a positive slope; the agent's argmax is among the maximisers in either case."),
                Claim("Theorem 2, corollary 1: the agents' argmaxes reach the joint maximum, a Nash equilibrium", verdicts["theorem 2"],
                      f"Failures: monotonic {total['monotonic']['theorem_2']}, idle agent {total['idle agent']['theorem_2']}, unconstrained {total['unconstrained']['theorem_2']} of {cases} each. (Equation 6 prints argmax inside f; max is meant.)"),
            ],
        ),
        (
            "Theorem 3: SMIX against Q(lambda), one update", "theory_theorem3", _theorem_3_figure(t3),
            "Each dot is a random process with its own values, policies, gamma (0.5 to 0.99) and lambda (0 to 1). Dec-POMDP: values of joint histories, decentralised policies.",
            [Claim("Theorem 3: the updates differ by at most eps gamma M / (1 - lambda gamma)", verdicts["theorem 3"],
                   f"{t3['violations']} violations in {sum(len(row['bound']) for row in t3['draws'].values())} draws. Largest difference / bound: " + ", ".join(f"{k} {v:.3f}" for k, v in ratio.items()) + ". The worst case attains it. With values of one sign, at most half of it is used.")],
        ),
        (
            "Theorem 4: where Q(lambda) converges", "theory_theorem4", _theorem_4_figure(t4),
            "Expected updates with fixed policies from a random start, gamma 0.9. The process of the middle panel has two states; its exact boundary meets the "
            "theorem's line at lambda = 1 and at eps = 2. Between those ends nothing here shows whether the line could be moved.",
            [
                Claim("Theorem 4: Q(lambda) converges where lambda eps < (1 - gamma)/gamma", verdicts["theorem 4"],
                      f"{t4['diverging_inside_the_region']} divergences inside ({t4['undecided']} cases were undecided after 2000 updates; where decided, the iteration agrees with the spectral radius but for {t4['disagree_with_spectral_radius']}). Outside, {t4['diverging_share_outside']['q_lambda']:.1%} of random cases diverge: sufficient, far from necessary on average. Tested is the expected update; the theorem's sampled form with step sizes is not."),
                Claim("SMIX converges as Q(lambda) does", verdicts["smix converges"], f"SMIX with fixed policies diverged in {t4['diverging_share_outside']['smix']:.1%} of all cases, whatever lambda and eps: its update is on-policy evaluation of mu, a contraction. It converges in more cases, but to another value (next figure)."),
            ],
        ),
        (
            "Where SMIX settles", "theory_limits", _limits_figure(lim),
            "gamma 0.9, lambda 0.8; lines are medians over random processes, bands run from the lowest to the highest. Left: fixed policies. Right: the behaviour is "
            "epsilon-greedy to its own values after each of 300 updates.",
            [Claim("Table I: the stable point of SMIX is Q*", verdicts["stable point"],
                   f"With fixed policies the limit is Q of the behaviour (within {lim['fixed']['to_q_mu']:.0e}), not of the target. With exploration eps its median distance to Q*, relative to max |Q*|, is " + ", ".join(f"{g:.3f} at {e}" for e, g in zip(epsilons, control, strict=True)) + ": Q* only as exploration vanishes.")],
        ),
        (
            "How near behaviour and target are in a team", "theory_distance", _distance_figure(explore),
            "Closed form: L1 distance between a greedy team and the same team exploring, 10 actions each. Dotted: what theorem 4 allows at gamma 0.99, lambda 0.8.",
            [Claim("Behaviour close to target 'should not be a problem' (footnote 5)", verdicts["close policies"],
                   f"As far as theorem 4 asks for it: at the paper's gamma 0.99 and lambda 0.8 it allows eps < {explore['allowed']:.4f}; final exploration of 0.05 gives {explore['distance']['0.05'][0]:.2f} for one agent and {explore['distance']['0.05'][9]:.2f} for ten. Replay of older policies adds to it. The condition is only sufficient, so this says that the theorem is silent there, not that learning fails.")],
        ),
        (
            "Variance of importance sampling", "theory_variance", _variance_figure(var),
            "pi and mu epsilon-greedy with 0.05 and 0.3, 5 actions, gamma 0.99, lambda 0.8, values 0. Lines exact, dots sampled. Dots far below their line are the same heavy "
            "tail: the outcomes that make the variance do not occur in the sample.",
            [Claim("Importance sampling suffers from large variance (section IV-B)", verdicts["large variance"],
                   f"Exactly {var['second_moment']:.4f}^(agents x steps) - 1: {exact:.2g} for 16 agents and 10 steps, of which {var['samples']} samples see {sampled:.2g}. Retrace and tree-backup keep variance low by cutting traces: the mean trace of 16 agents is " + f"{var['returns_of_10_steps']['retrace']['trace'][-1]:.3f} and {var['returns_of_10_steps']['tree_backup']['trace'][-1]:.1g}, so they approach one step.")],
        ),
        (
            "Cost of one target", "theory_cost", _cost_figure(found["costs"], timings),
            "Left: numbers read for one step's next value and trace. Right: measured, batch of 8 steps on one thread, the package's monotonic mixer; below 10^-4 s the time is "
            "that of starting operations.",
            [
                Claim("Q(lambda) costs exponentially in the number of agents, SMIX linearly (section V)", verdicts["costs"],
                      f"{last} agents with 3 actions: enumeration takes {slowest['q_lambda']:.0f} times SMIX's time. But where the target policy is greedy, theorem 2 makes Q(lambda) linear, too ({slowest['q_lambda, greedy']:.1f} times)."),
                Claim("The joint action space makes pi(a) impractical to compute (section IV-B)", verdicts["pi is impractical"],
                      f"Decentralised policies factor: pi(a) is a product of one probability for each agent. The importance ratio's target takes {slowest['importance']:.1f} times SMIX's time with {last} agents. Its variance is the obstacle, not its cost."),
            ],
        ),
    ]  # fmt: skip
    sections: list[Section] = []
    claims: list[Claim] = []
    for title, name, figure, caption, said in blocks:
        sections += [FigureSection(title, figure, caption, name), ClaimsSection("The paper beside it", said)]
        claims += said
    text = """Values here are tables. Processes are fully observed, but for theorem 3's on histories; function
    approximation, sampled updates and step sizes are not tested."""
    return [*sections, TextSection("What this leaves out", text)], claims


# --- figures ------------------------------------------------------------------------------------------------------


def _panels(n: int, titles: Sequence[str], height: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1.2 + 4.0 * n, height), layout="constrained")
    axes = list(figure.subplots(1, n, squeeze=False).ravel())
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, loc="left", fontsize=10)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#e4e4e4", linewidth=0.7)
        one.set_axisbelow(True)
    return figure, axes


def _label(axes: Axes, x: str, y: str, legend: Any = "best") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend(frameon=False, fontsize=8, loc=legend)


def _theorem_3_figure(t3: Mapping[str, Any]) -> Figure:
    figure, (left, right) = _panels(2, ["Measured against the bound", "How much of the bound is used"])
    for (kind, row), color in zip(t3["draws"].items(), (BLUE, GREEN, ORANGE, RED, PURPLE), strict=True):
        bound, gap = np.array(row["bound"]), np.maximum(row["difference"], 1e-6)
        left.loglog(bound, gap, ".", color=color, markersize=4, alpha=0.5, label=kind, rasterized=True)
        right.plot(np.sort(gap / bound), np.linspace(0, 1, len(gap)), color=color, linewidth=2, label=kind)
    ends = np.array(left.get_xlim())
    left.plot(ends, ends, color="black", linewidth=1, label="bound")
    left.set_ylim(bottom=1e-4)
    right.set_xlim(right=1.5)  # room for the legend beside the worst case
    _label(left, "bound (unit of the values)", "largest difference of the updates (same unit)", "lower right")
    _label(right, "difference / bound", "share of draws at or below", "lower right")
    return figure


def _theorem_4_figure(t4: Mapping[str, Any]) -> Figure:
    titles = ["Q(lambda), random processes", "Q(lambda), switching process", "SMIX, random processes"]
    figure, axes = _panels(3, titles)
    lams, distances, limit = t4["lambda"], t4["distance"], theory.theorem_4_limit(t4["gamma"])
    for one, name in zip(axes, ("q_lambda", "switching", "smix"), strict=True):
        one.grid(visible=False)
        shades = one.pcolormesh(distances, lams, t4["diverging"][name], vmin=0, vmax=1, cmap="Blues", rasterized=True)
        x = np.linspace(limit, 2, 200)
        one.plot(x, limit / x, color=RED, linewidth=2, label="lambda eps = (1 - gamma)/gamma")
        one.set_ylim(0, 1)
        one.set_xlim(0, 2)
        _label(one, "eps, L1 distance of pi and mu", "lambda", None)
    axes[0].legend(fontsize=8, loc="lower left")
    figure.colorbar(shades, ax=axes, label="share of cases that diverge", shrink=0.85)
    return figure


def _limits_figure(lim: Mapping[str, Any]) -> Figure:
    figure, (left, right) = _panels(2, ["Fixed policies: limit against Q of the target", "Following its own values"])
    for one, x, values in (
        (left, lim["fixed"]["distance"], lim["fixed"]["to_q_pi"]),
        (right, lim["control"]["epsilon"], lim["control"]["to_q_star"]),
    ):
        values = np.array(values)
        one.plot(x, np.median(values, 1), "o-", color=BLUE, label="SMIX, median")
        one.fill_between(
            x, values.min(1), values.max(1), color=BLUE, alpha=0.18, linewidth=0, label="lowest to highest"
        )
    left.plot(lim["fixed"]["distance"], lim["fixed"]["bound"], color=RED, label="bound: eps gamma/(1 - gamma)")
    left.set_ylim(0, 2)
    _label(left, "eps, L1 distance of pi and mu", "max |limit - Q pi| / max |Q pi|")
    _label(right, "epsilon of each of 2 agents", "max |Q - Q*| / max |Q*|")
    return figure


def _distance_figure(explore: Mapping[str, Any]) -> Figure:
    figure, (one,) = _panels(1, ["Distance of a team's behaviour from its greedy target"])
    for (epsilon, row), color in zip(explore["distance"].items(), (BLUE, GREEN, ORANGE, RED), strict=True):
        one.semilogy(explore["agents"], row, color=color, linewidth=2, label=f"epsilon = {epsilon}")
    one.axhline(explore["allowed"], color="black", linestyle=":", label="allowed by theorem 4")
    figure.set_size_inches(7.2, 4.2)
    _label(one, "number of agents", "eps, L1 distance (at most 2)", "lower right")
    return figure


def _argmax_figure(arg: Mapping[str, Any]) -> Figure:
    figure, (one,) = _panels(1, ["Draws in which the statement fails, 2 to 4 agents together"])
    cases = arg["draws"] * len(arg["agents"])
    for k, (name, color) in enumerate(zip(arg["failures"], (BLUE, RED, ORANGE), strict=True)):
        rows = arg["failures"][name]
        shares = [100 * sum(rows[key]) / cases for key in rows]
        bars = one.bar(np.arange(3) + 0.27 * (k - 1), shares, 0.25, color=color, label=name)
        one.bar_label(bars, [f"{share:.0f}" for share in shares], fontsize=9)
    one.set_xticks(range(3), ["theorem 1 (as sets)", "theorem 2", "corollary 1"])
    one.set_ylim(0, 125)
    one.set_yticks(range(0, 101, 25))
    figure.set_size_inches(7.2, 4.2)
    _label(one, "statement", "failures (% of draws)", None)
    one.legend(frameon=False, fontsize=9, ncols=3, loc="upper center")
    return figure


def _variance_figure(var: Mapping[str, Any]) -> Figure:
    titles = ["Product of the ratios", "Return of 10 steps", "How far a return looks"]
    figure, (first, second, third) = _panels(3, titles)
    for t, color in zip(var["steps"], (BLUE, GREEN, ORANGE, RED), strict=True):
        first.loglog(var["agents"], var["product"]["exact"][str(t)], color=color, label=f"{t} steps")
        first.loglog(var["agents"], var["product"]["sampled"][str(t)], "o", color=color, markersize=4)
    labels = {"importance": "importance", "retrace": "Retrace", "tree_backup": "tree-backup", "smix": "SMIX, Q(lambda)"}
    for (name, row), color in zip(var["returns_of_10_steps"].items(), (RED, ORANGE, GREEN, BLUE), strict=True):
        second.loglog(var["agents"], row["variance"], color=color, label=labels[name])
        second.loglog(var["agents"], row["sampled"], "o", color=color, markersize=4)
        dashed = "--" if name == "importance" else "-"
        above = 3 if name == "importance" else 2  # its mean trace is SMIX's
        third.semilogx(var["agents"], row["trace"], dashed, color=color, linewidth=2, label=labels[name], zorder=above)
    for one in (first, second, third):
        one.set_xticks(var["agents"], [str(n) for n in var["agents"]])
        one.minorticks_off()
    _label(first, "number of agents", "variance")
    _label(second, "number of agents", "variance of the return (reward squared)")
    _label(third, "number of agents", "mean trace under mu")
    return figure


def _cost_figure(terms: Mapping[str, Any], timings: Mapping[str, Any]) -> Figure:
    figure, (left, right) = _panels(2, ["Count", "Measured"])
    styles = {"smix": (BLUE, "-"), "importance": (RED, "-"), "q_lambda, greedy": (PURPLE, "-"), "q_lambda": (GREY, "-"),
              "tree_backup": (GREEN, "--"), "retrace": (ORANGE, ":")}  # fmt: skip
    for name, (color, line) in styles.items():
        left.semilogy(terms["agents"], terms["terms"][name], line, color=color, linewidth=2, label=name)
        right.semilogy(timings["agents"], timings["seconds"][name], line, color=color, linewidth=2, label=name)
    _label(left, "number of agents (3 actions each)", "numbers read for one step's target")
    _label(right, "number of agents (3 actions each)", "time for 8 steps (s)")
    return figure
