"""The numbers of the theory study: one function for each part, each from a random stream of its own.

Every function takes a generator and sizes and returns a plain dict of lists and numbers, the same for the same seed.
``costs`` alone measures time, so its seconds differ from call to call and are kept apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
import torch

from smix_pz.algorithms import theory
from smix_pz.algorithms.mixers import MIXERS
from smix_pz.algorithms.networks import ParameterStack

PAPER = {"gamma": 0.99, "lambda": 0.8, "epsilon_start": 1.0, "epsilon_end": 0.05}
_TOLERANCE = 1e-9  # relative; what float64 loses in these small systems lies far below


def theorem_3(rng: np.random.Generator, draws: int) -> dict[str, Any]:
    """SMIX's and Q(lambda)'s update from the same values, against equation 19, on ``draws`` processes of each kind.

    Kinds: ``random`` (values of both signs), ``non-negative`` (values in [0, 1]), ``exploring`` (pi greedy, mu the
    same team with each agent's epsilon-greedy exploration) and ``worst case`` (values +-1; where mu differs from pi it
    moves weight from a +1 to a -1). ``Dec-POMDP``, a twentieth as many: values of joint histories of three steps, and
    decentralised policies, each agent's a function of its own history.
    """
    rows: dict[str, dict[str, list[float]]] = {}
    for kind in ("random", "non-negative", "exploring", "worst case"):
        differences, bounds = [], []
        for _ in range(draws):
            n_states, n_agents, n_actions = (int(rng.integers(2, 5)), int(rng.integers(2, 4)), int(rng.integers(2, 4)))
            gamma, lam = rng.uniform(0.5, 0.99), rng.uniform()
            mdp = theory.random_mdp(rng, n_states, n_agents, n_actions, gamma)
            pi, mu = (theory.joint_policy(theory.random_policies(rng, n_states, n_agents, n_actions)) for _ in range(2))
            q = rng.uniform(-1, 1, mdp.reward.shape) * 10 ** rng.uniform(-1, 1)
            if kind == "non-negative":
                q = np.abs(q)
            if kind == "exploring":
                pi = theory.epsilon_greedy(q, 0.0, n_agents, n_actions)
                mu = theory.epsilon_greedy(q, rng.uniform(), n_agents, n_actions)
            if kind == "worst case":
                q = np.where(np.arange(q.shape[1]) < q.shape[1] // 2, 1.0, -1.0) * np.ones_like(q)
                pi, other = (np.zeros_like(q) for _ in range(2))
                pi[:, 0], other[:, -1] = 1.0, 1.0
                mu = theory.at_distance(pi, other, rng.uniform(0.01, 2.0))
            found = [theory.update(name, mdp, q, pi, mu, lam) for name in ("smix", "q_lambda")]
            differences.append(float(np.abs(found[0] - found[1]).max()))
            distance = theory.policy_distance(pi, mu)
            bounds.append(theory.theorem_3_bound(distance, gamma, lam, float(np.abs(q).max())))
        rows[kind] = {"difference": differences, "bound": bounds}
    rows["Dec-POMDP"] = _theorem_3_on_histories(rng, max(draws // 20, 3))
    ratios = {kind: np.divide(row["difference"], row["bound"]) for kind, row in rows.items()}
    return {
        "draws": rows,
        "violations": int(sum((ratio > 1 + _TOLERANCE).sum() for ratio in ratios.values())),
        "largest_ratio": {kind: float(ratio.max()) for kind, ratio in ratios.items()},
        "median_ratio": {kind: float(np.median(ratio)) for kind, ratio in ratios.items()},
    }


def _theorem_3_on_histories(rng: np.random.Generator, draws: int) -> dict[str, list[float]]:
    differences, bounds = [], []
    for _ in range(draws):
        gamma, lam = rng.uniform(0.5, 0.99), rng.uniform()
        mdp, knows = theory.random_dec_pomdp(rng).histories(gamma)
        pi, mu = (theory.decentralised_policy(rng, knows, mdp.n_actions) for _ in range(2))
        q = rng.uniform(-1, 1, mdp.reward.shape) * 10 ** rng.uniform(-1, 1)
        found = [theory.update(name, mdp, q, pi, mu, lam) for name in ("smix", "q_lambda")]
        differences.append(float(np.abs(found[0] - found[1]).max()))
        distance = theory.policy_distance(pi, mu)
        bounds.append(theory.theorem_3_bound(distance, gamma, lam, float(np.abs(q).max())))
    return {"difference": differences, "bound": bounds}


def theorem_4(rng: np.random.Generator, grid: int, processes: int, iterations: int = 2000) -> dict[str, Any]:
    """Share of cases that do not converge, over lambda (rows) and eps (columns), iterated from a random start.

    ``random``: processes of 4 states and 2 agents, deterministic policies moved apart by exactly eps in every state;
    ``switching``: 1 if Q(lambda) diverges for any of 11 pairs of policies on the switching process. A case converged
    if the distance to the fixed point has shrunk to a millionth, diverged if it has grown a million-fold, and is
    undecided otherwise.
    """
    gamma = 0.9
    lams, distances = np.linspace(0, 1, grid), np.linspace(0.0, 2.0, grid)
    shares = {name: np.zeros((grid, grid)) for name in ("q_lambda", "smix", "switching")}
    undecided, inside, spectral = 0, 0, 0
    switching = theory.switching_mdp(gamma)
    cases = []
    for _ in range(processes):
        mdp = theory.random_mdp(rng, 4, 2, 2, gamma, concentration=0.05)
        first = rng.integers(4, size=4)
        other = (first + rng.integers(1, 4, size=4)) % 4
        cases.append((mdp, np.eye(4)[first], np.eye(4)[other]))
    for i, lam in enumerate(lams):
        for j, distance in enumerate(distances):
            matrices: dict[str, list[np.ndarray]] = {"q_lambda": [], "smix": [], "switching": []}
            for mdp, base, other in cases:
                pi = theory.at_distance(base, other, distance)
                for name in ("q_lambda", "smix"):
                    matrices[name].append(theory.affine(name, mdp, pi, base, lam)[0])
            for stay in np.linspace(distance / 2, 1.0, 11):
                mu, pi = theory.switching_policy(stay), theory.switching_policy(max(0.0, stay - distance / 2))
                matrices["switching"].append(theory.affine("q_lambda", switching, pi, mu, lam)[0])
            for name, stack in matrices.items():
                ends = _iterate(np.stack(stack), rng, iterations)
                grown, open_ = ends > 1e6, (ends > 1e-6) & (ends < 1e6)
                undecided += int(open_.sum())
                radius = np.abs(np.linalg.eigvals(np.stack(stack))).max(-1)
                spectral += int((grown & (radius < 1) | (ends < 1e-6) & (radius > 1)).sum())
                shares[name][i, j] = grown.any() if name == "switching" else grown.mean()
                if name != "smix" and lam * distance < theory.theorem_4_limit(gamma):
                    inside += int(grown.sum())
    return {
        "gamma": gamma,
        "lambda": lams.tolist(),
        "distance": distances.tolist(),
        "processes": processes,
        "diverging": {name: share.tolist() for name, share in shares.items()},
        "diverging_inside_the_region": inside,
        "diverging_share_outside": {
            name: float(share[np.outer(lams, distances) >= theory.theorem_4_limit(gamma)].mean())
            for name, share in shares.items()
        },
        "undecided": undecided,
        "disagree_with_spectral_radius": spectral,
    }


def _iterate(matrices: np.ndarray, rng: np.random.Generator, iterations: int) -> np.ndarray:
    """[K, X, X] -> how much a random error [K, X] has grown when it is decided, or at the end: [K]."""
    error = rng.normal(size=(*matrices.shape[:2], 1))
    start = np.abs(error).max((1, 2))
    growth = np.ones(len(matrices))
    running = np.ones(len(matrices), dtype=bool)
    step = np.linalg.matrix_power(matrices, 20)  # what is looked at every 20 updates
    for _ in range(iterations // 20):
        error[running] = step[running] @ error[running]
        growth[running] = np.abs(error[running]).max((1, 2)) / start[running]
        running &= (growth > 1e-6) & (growth < 1e6)
        if not running.any():
            break
    return growth


def limits(rng: np.random.Generator, processes: int) -> dict[str, Any]:
    """Where SMIX settles: with fixed policies, and with a behaviour that follows its own values (Table I)."""
    gamma, lam = 0.9, 0.8
    distances = np.linspace(0.0, 1.0, 6)
    to_pi, to_mu, bound = (np.zeros((len(distances), processes)) for _ in range(3))
    for k in range(processes):
        mdp = theory.random_mdp(rng, 4, 2, 2, gamma)
        first = rng.integers(4, size=4)
        pi, other = np.eye(4)[first], np.eye(4)[(first + 1) % 4]
        q_pi = theory.policy_values(mdp, pi)
        for i, distance in enumerate(distances):
            mu = theory.at_distance(pi, other, distance)
            q = rng.normal(size=q_pi.shape)
            for _ in range(300):
                q = theory.update("smix", mdp, q, pi, mu, lam)
            scale = np.abs(q_pi).max()
            to_pi[i, k] = np.abs(q - q_pi).max() / scale
            to_mu[i, k] = np.abs(q - theory.policy_values(mdp, mu)).max() / scale
            bound[i, k] = gamma * distance / (1 - gamma)
    epsilons = np.array([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5])
    gaps = np.zeros((len(epsilons), processes))
    settled = np.zeros((len(epsilons), processes))
    for k in range(processes):
        mdp = theory.random_mdp(rng, 4, 2, 2, gamma)
        best = theory.optimal_values(mdp)
        for i, epsilon in enumerate(epsilons):
            q = rng.normal(size=best.shape)
            for _ in range(300):
                before, behaviour = q, theory.epsilon_greedy(q, float(epsilon), 2, 2)
                q = theory.update("smix", mdp, q, behaviour, behaviour, lam)
            gaps[i, k] = np.abs(q - best).max() / np.abs(best).max()
            settled[i, k] = np.abs(q - before).max() < 1e-8 * np.abs(best).max()
    return {
        "gamma": gamma,
        "lambda": lam,
        "processes": processes,
        "fixed": {
            "distance": distances.tolist(),
            "to_q_pi": to_pi.tolist(),
            "to_q_mu": float(to_mu.max()),
            "bound": bound[:, 0].tolist(),
        },
        "control": {"epsilon": epsilons.tolist(), "to_q_star": gaps.tolist(), "settled": settled.mean(1).tolist()},
    }


def exploration_distance() -> dict[str, Any]:
    """eps of theorems 3 and 4 for epsilon-greedy teams of 1 to 30 agents with 10 actions each; closed form."""
    agents = list(range(1, 31))
    return {
        "agents": agents,
        "n_actions": 10,
        "distance": {
            str(e): [theory.epsilon_greedy_distance(e, n, 10) for n in agents] for e in (0.001, 0.01, 0.05, 0.2)
        },
        "allowed": theory.theorem_4_limit(PAPER["gamma"]) / PAPER["lambda"],
    }


def argmaxes(rng: np.random.Generator, draws: int) -> dict[str, Any]:
    """Theorems 1 and 2 and corollary 1 on the package's mixers, by enumeration of all joint actions (3 each)."""
    n_actions = 3
    found: dict[str, Any] = {"n_actions": n_actions, "draws": draws, "agents": [2, 3, 4], "failures": {}}
    for name in ("monotonic", "unconstrained", "idle agent"):
        rows: dict[str, list[int]] = {"theorem_1": [], "theorem_2": [], "corollary_1": []}
        for n_agents in found["agents"]:
            counts = dict.fromkeys(rows, 0)
            mixer = MIXERS["monotonic" if name == "idle agent" else name](n_agents, 4, 8, 1)
            stack = ParameterStack.draw(mixer.parameters(), rng.spawn(draws), torch.device("cpu"))
            params = {key: 3.0 * value.double() for key, value in stack.target_params.items()}
            if name == "idle agent":  # no weight on agent 0: dQ_tot/dQ_0 = 0, which assumption 1 allows
                params["mixer.hypernet.weight"][:, :, :8] = 0.0
                params["mixer.hypernet.bias"][:, :, :8] = 0.0
            qs, states = 3 * rng.normal(size=(draws, n_agents, n_actions)), 3 * rng.normal(size=(draws, 1, 4))
            joint = np.stack(np.unravel_index(np.arange(n_actions**n_agents), (n_actions,) * n_agents), 1)
            chosen = qs[:, np.arange(n_agents), joint]  # [draws, J, N]
            state = torch.from_numpy(states).expand(-1, len(joint), -1)
            tables = mixer(params, torch.from_numpy(chosen), state)[..., 0].numpy()
            for q, flat in zip(qs, tables, strict=True):
                table, greedy = flat.reshape((n_actions,) * n_agents), tuple(q.argmax(-1))
                slack = 1e-12 * np.abs(table).max()
                alone = [table.max(tuple(k for k in range(n_agents) if k != i)) for i in range(n_agents)]
                # Equation 2 as it stands: both sides are the same set of actions, ties included.
                sets = [set(np.flatnonzero(a >= a.max() - slack)) for a in alone]
                counts["theorem_1"] += any(s != {g} for s, g in zip(sets, greedy, strict=True))
                counts["theorem_2"] += bool(table[greedy] < table.max() - slack)
                lines = [table[(*greedy[:i], slice(None), *greedy[i + 1 :])] for i in range(n_agents)]
                counts["corollary_1"] += any(line.max() > table[greedy] + slack for line in lines)
            for key, count in counts.items():
                rows[key].append(count)
        found["failures"][name] = rows
    return found


def variances(rng: np.random.Generator, samples: int) -> dict[str, Any]:
    """Variance of ratio products and of returns against agents and steps, exact and sampled.

    Each of N agents plays its greedy action or one of four others: pi epsilon-greedy with 0.05, mu with 0.3. The
    team's reward is the share of agents that played greedily. Values are 0, gamma 0.99, lambda 0.8.
    """
    n_actions, greedy = 5, {e: 1 - e * 4 / 5 for e in (0.05, 0.3)}
    pi, mu = (np.array([greedy[e], *[(1 - greedy[e]) / 4] * 4]) for e in (0.05, 0.3))
    chi, agents, steps = theory.ratio_second_moment(pi, mu), [1, 2, 4, 8, 16], [1, 2, 5, 10]
    exact = {str(t): [chi ** (n * t) - 1 for n in agents] for t in steps}
    sampled: dict[str, list[float]] = {str(t): [] for t in steps}
    returns: dict[str, dict[str, list[float]]] = {}
    for n in agents:
        m = np.arange(n + 1)  # how many agents play greedily says everything about a step
        weights = np.array([comb(n, int(k)) for k in m]) * mu[0] ** m * (1 - mu[0]) ** (n - m)
        ratio = (pi[0] / mu[0]) ** m * (pi[1] / mu[1]) ** (n - m)
        probability = pi[0] ** m * pi[1] ** (n - m)
        drawn = rng.binomial(n, mu[0], (samples, max(steps)))
        products = np.cumprod(ratio[drawn], 1)
        for t in steps:
            sampled[str(t)].append(float(products[:, t - 1].var()))
        traces = {
            "importance": ratio,
            "retrace": np.minimum(1, ratio),
            "tree_backup": probability,
            "smix": np.ones(n + 1),
        }
        for name, trace in traces.items():
            row = returns.setdefault(name, {"variance": [], "sampled": [], "trace": []})
            row["variance"].append(theory.repeated_game_moments(weights, 0.8 * trace, m / n, 0.99, 10)[1])
            weight = np.cumprod(0.99 * 0.8 * trace[drawn], 1)
            row["sampled"].append(float((weight * drawn / n).sum(1).var()))
            row["trace"].append(0.8 * float(weights @ trace))
    return {
        "n_actions": n_actions,
        "second_moment": chi,
        "agents": agents,
        "steps": steps,
        "samples": samples,
        "product": {"exact": exact, "sampled": sampled},
        "returns_of_10_steps": returns,
    }


def costs(rng: np.random.Generator, most_agents: int, repeats: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(numbers read for one step's target, measured seconds), against the number of agents with 3 actions each.

    The joint value is the package's monotonic mixer; seconds are the median over ``repeats`` of a batch of 8 steps.
    """
    batch, n_actions, agents = 8, 3, list(range(1, most_agents + 1))
    count: dict[str, Callable[[int], int]] = {
        "smix": lambda n: n,  # the taken actions' values
        "importance": lambda n: 3 * n,  # and both policies' probabilities of them (equation 15)
        "q_lambda, greedy": lambda n: (n_actions + 1) * n,  # theorem 2: each agent's maximum
        "q_lambda": lambda n: (2 * n) * n_actions**n + n,  # values and probabilities of all joint actions
        "tree_backup": lambda n: (2 * n) * n_actions**n + 2 * n,
        "retrace": lambda n: (2 * n) * n_actions**n + 3 * n,
    }
    seconds: dict[str, list[float]] = {name: [] for name in count}
    for n in agents:
        mixer = MIXERS["monotonic"](n, 4, 32, 1)
        stack = ParameterStack.draw(mixer.parameters(), [rng.spawn(1)[0]], torch.device("cpu"))
        qs, state = (
            torch.from_numpy(rng.normal(size=size).astype(np.float32)) for size in ((batch, n, n_actions), (batch, 4))
        )
        pi, mu = (torch.from_numpy(rng.dirichlet(np.ones(n_actions), (batch, n)).astype(np.float32)) for _ in range(2))
        taken = torch.from_numpy(rng.integers(n_actions, size=(batch, n, 1)))
        joint = torch.cartesian_prod(*[torch.arange(n_actions)] * n).reshape(-1, n)
        for name in count:
            call = _target(name, mixer, stack.target_params, qs, state, pi, mu, taken, joint)
            call()
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            seconds[name].append(float(np.median(times)))
    terms = {name: [of(n) for n in agents] for name, of in count.items()}
    shared = {"agents": agents, "n_actions": n_actions}
    return {**shared, "terms": terms}, {**shared, "batch": batch, "repeats": repeats, "seconds": seconds}


def _target(
    name: str, mixer: Any, params: Any, qs: Any, state: Any, pi: Any, mu: Any, taken: Any, joint: Any
) -> Callable[[], Any]:
    """A function that computes next value and trace of a batch: qs, pi, mu [B, N, A], taken [B, N, 1], joint [J, N]."""
    index = torch.arange(joint.shape[1])

    def mixed(values: Any) -> Any:  # [B, K, N] -> [B, K]
        rows = state[:, None].expand(-1, values.shape[1], -1)
        return mixer(params, values.flatten(0, 1)[None], rows.flatten(0, 1)[None]).reshape(values.shape[:2])

    def of_taken(x: Any) -> Any:
        return x.gather(-1, taken).squeeze(-1)

    def enumerated() -> Any:
        return (pi[:, index, joint].prod(-1) * mixed(qs[:, index, joint])).sum(-1)

    def ratio() -> Any:
        return of_taken(pi).prod(-1) / of_taken(mu).prod(-1)

    calls: dict[str, Callable[[], Any]] = {
        "smix": lambda: mixed(of_taken(qs)[:, None]),
        "importance": lambda: ratio()[:, None] * mixed(of_taken(qs)[:, None]),
        "q_lambda, greedy": lambda: mixed(qs.max(-1).values[:, None]),
        "q_lambda": enumerated,
        "tree_backup": lambda: (enumerated(), of_taken(pi).prod(-1)),
        "retrace": lambda: (enumerated(), ratio().clamp(max=1.0)),
    }
    return calls[name]
