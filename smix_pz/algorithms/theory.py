"""The paper's theory on tables: expected off-policy updates of a whole value function, without learning or sampling.

A team that sees the state is a Markov decision process whose action is the tuple of its agents' actions (SMIX paper,
section III-B). On such a process the general off-policy update, equation 7, has a closed form. With

    delta(s, a) = r(s, a) + gamma sum_s' P(s' | s, a) sum_a' e(a' | s') Q(s', a') - Q(s, a)           (equation 8)
    K[(s, a), (s', a')] = P(s' | s, a) mu(a' | s') c(s', a')

it is ``Q + sum_k (gamma K)^k delta = Q + (I - gamma K)^-1 delta``. Estimators differ in the trace ``c`` and in the
policy ``e`` that values are averaged over, and in nothing else:

============ =========================== ======= ====================================================================
name         trace c(a)                  e       source
============ =========================== ======= ====================================================================
one_step     0                           pi      equation 8
smix         lambda                      mu      equation 16; the taken action's value, in expectation
q_lambda     lambda                      pi      equation 18; Harutyunyan et al. 2016
tree_backup  lambda pi(a)                pi      Precup et al. 2000
retrace      lambda min(1, pi(a)/mu(a))  pi      Munos et al. 2016
importance   lambda pi(a)/mu(a)          pi      equations 13 to 15, per decision
============ =========================== ======= ====================================================================

Letters: ``S`` states, ``N`` agents, ``A`` actions of each, ``J = A**N`` joint actions; joint action ``j`` has agent 0's
action as its most significant digit in base A. Values, rewards and policies of the team are ``[S, J]``. Values are in
the rewards' unit, distances of policies are L1 (0 to 2), probabilities need not be factored unless a name says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smix_pz.names import check_name

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TeamMDP:
    """A cooperative team's decision process.

    Attributes:
        transition: [S, J, S], probability of the next state; what a row lacks to 1 is the probability that the
            episode terminates.
        reward: [S, J], the team's reward.
        gamma: discount, 0 <= gamma < 1 (or 1 where every episode terminates).
        n_agents, n_actions: of the team; J = n_actions ** n_agents.

    Raises:
        ValueError: shapes that do not fit, rows that are no probabilities, gamma outside [0, 1].
    """

    transition: FloatArray
    reward: FloatArray
    gamma: float
    n_agents: int
    n_actions: int

    def __post_init__(self) -> None:
        n_states, n_joint = self.reward.shape
        if n_joint != self.n_actions**self.n_agents:
            raise ValueError(
                f"reward has {n_joint} joint actions; {self.n_agents} agents with {self.n_actions} actions "
                f"have {self.n_actions**self.n_agents}"
            )
        if self.transition.shape != (n_states, n_joint, n_states):
            raise ValueError(f"transition is {self.transition.shape}; it should be {(n_states, n_joint, n_states)}")
        if (self.transition < 0).any() or (self.transition.sum(-1) > 1 + 1e-9).any():
            raise ValueError("transition has a negative entry or a row above 1; rows are probabilities")
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma is {self.gamma}; it should lie between 0 and 1")


def random_mdp(
    rng: np.random.Generator,
    n_states: int = 4,
    n_agents: int = 2,
    n_actions: int = 2,
    gamma: float = 0.9,
    *,
    concentration: float = 0.3,
    acyclic: bool = False,
) -> TeamMDP:
    """Dirichlet transitions (small ``concentration``: nearly deterministic) and normal rewards.

    Args:
        acyclic: every step leads to a later state or ends the episode, so that episodes have at most S steps.
    """
    n_joint = n_actions**n_agents
    transition = rng.dirichlet(np.full(n_states, concentration), (n_states, n_joint))
    if acyclic:
        transition *= np.triu(np.ones((n_states, n_states)), 1)[:, None, :]
    return TeamMDP(transition, rng.normal(size=(n_states, n_joint)), gamma, n_agents, n_actions)


@dataclass(frozen=True)
class DecPOMDP:
    """A cooperative decentralised partially observable process (SMIX paper, section III-A).

    Attributes:
        start: [H], probability of the first hidden state. transition: [H, J, H]; reward: [H, J].
        observe: [N, H, O], probability of each agent's observation of the hidden state that a step leads to.
        horizon: steps of an episode.
    """

    start: FloatArray
    transition: FloatArray
    reward: FloatArray
    observe: FloatArray
    horizon: int
    n_actions: int

    @property
    def n_agents(self) -> int:
        """N."""
        return self.observe.shape[0]

    def histories(self, gamma: float) -> tuple[TeamMDP, NDArray[np.int64]]:
        """The process as an MDP whose states are joint histories of actions and observations, and what agents know.

        That is what tables of values over histories, Q(tau, a), are tables of.

        Returns:
            (the MDP, [N, S]: the index of each agent's own history in each joint one; where two entries are equal, the
            agent cannot tell the two apart, and a decentralised policy acts alike).
        """
        n_joint, n_seen = self.reward.shape[1], self.observe.shape[2]
        beliefs, level = [self.start], [0]
        own: list[tuple[tuple[tuple[int, int], ...], ...]] = [((),) * self.n_agents]
        edges: list[tuple[int, int, int, float]] = []
        for step in range(self.horizon):
            following = []
            for node in level if step < self.horizon - 1 else ():
                for joint in range(n_joint):
                    digits = np.unravel_index(joint, (self.n_actions,) * self.n_agents)
                    after = beliefs[node] @ self.transition[:, joint]
                    for seen in np.ndindex(*(n_seen,) * self.n_agents):
                        weighed = after * np.prod([self.observe[i, :, o] for i, o in enumerate(seen)], axis=0)
                        if (probability := float(weighed.sum())) <= 0.0:
                            continue
                        beliefs.append(weighed / probability)
                        known = zip(own[node], digits, seen, strict=True)
                        own.append(tuple((*past, (int(a), int(o))) for past, a, o in known))
                        edges.append((node, joint, len(beliefs) - 1, probability))
                        following.append(len(beliefs) - 1)
            level = following
        transition = np.zeros((len(beliefs), n_joint, len(beliefs)))
        for node, joint, after_node, probability in edges:
            transition[node, joint, after_node] = probability
        rewards = np.stack(beliefs) @ self.reward
        index = [{past: k for k, past in enumerate(dict.fromkeys(h[i] for h in own))} for i in range(self.n_agents)]
        knows = np.array([[index[i][h[i]] for h in own] for i in range(self.n_agents)])
        return TeamMDP(transition, rewards, gamma, self.n_agents, self.n_actions), knows


def random_dec_pomdp(
    rng: np.random.Generator,
    n_hidden: int = 3,
    n_agents: int = 2,
    n_actions: int = 2,
    n_seen: int = 2,
    horizon: int = 3,
) -> DecPOMDP:
    """Dirichlet transitions and observations, normal rewards."""
    n_joint = n_actions**n_agents
    return DecPOMDP(
        rng.dirichlet(np.ones(n_hidden)),
        rng.dirichlet(np.full(n_hidden, 0.3), (n_hidden, n_joint)),
        rng.normal(size=(n_hidden, n_joint)),
        rng.dirichlet(np.full(n_seen, 0.5), (n_agents, n_hidden)),
        horizon,
        n_actions,
    )


def decentralised_policy(rng: np.random.Generator, knows: NDArray[np.int64], n_actions: int) -> FloatArray:
    """A team's policy [S, J] over joint histories in which each agent looks at its own: knows [N, S]."""
    agents = [random_policies(rng, int(own.max()) + 1, 1, n_actions)[0][own] for own in knows]
    return joint_policy(np.stack(agents))


def switching_mdp(gamma: float) -> TeamMDP:
    """Two agents, two actions, two states: the next state is the exclusive-or of the actions; no rewards.

    On it Q(lambda) diverges as early as theorem 4 allows, at lambda = 1 and at eps = 2: let mu stay in the state it
    is in, and let pi leave it, and the values of the states swap signs with every update.
    """
    transition = np.zeros((2, 4, 2))
    for joint in range(4):
        transition[:, joint, (joint >> 1) ^ (joint & 1)] = 1.0
    return TeamMDP(transition, np.zeros((2, 4)), gamma, 2, 2)


def switching_policy(stay: float) -> FloatArray:
    """The switching MDP's policy [S, J] that stays with this probability: agent 0 plays 0, agent 1 randomises."""
    policy = np.zeros((2, 4))
    policy[0, :2] = stay, 1.0 - stay
    policy[1, :2] = 1.0 - stay, stay
    return policy


# --- policies -----------------------------------------------------------------------------------------------------


def joint_policy(agents: FloatArray) -> FloatArray:
    """The team's policy [S, J] of agents that decide by themselves, [N, S, A]: pi(a) = prod_i pi_i(a_i)."""
    n_states = agents.shape[1]
    return reduce(lambda joint, one: (joint[:, :, None] * one[:, None, :]).reshape(n_states, -1), agents)


def random_policies(
    rng: np.random.Generator, n_states: int, n_agents: int, n_actions: int, concentration: float = 1.0
) -> FloatArray:
    """One Dirichlet policy for each agent and state: [N, S, A], all entries positive."""
    drawn = rng.dirichlet(np.full(n_actions, concentration), (n_agents, n_states)) + 1e-6
    return drawn / drawn.sum(-1, keepdims=True)


def epsilon_greedy(q: FloatArray, epsilon: float, n_agents: int, n_actions: int) -> FloatArray:
    """The team's policy [S, J] where each agent plays its part of q's best joint action, or any with epsilon.

    Each agent draws by itself, as in algorithm 1 (line 6); epsilon 0 is the greedy policy.
    """
    digits = np.stack(np.unravel_index(q.argmax(-1), (n_actions,) * n_agents))  # [N, S]
    agents = (1.0 - epsilon) * np.eye(n_actions)[digits] + epsilon / n_actions
    return joint_policy(agents)


def at_distance(policy: FloatArray, other: FloatArray, distance: float) -> FloatArray:
    """The policy [S, J] on the line from ``policy`` to ``other`` whose L1 distance to ``policy`` is this everywhere.

    Raises:
        ValueError: in some state ``other`` is nearer than that.
    """
    span = np.abs(other - policy).sum(-1, keepdims=True)
    if (span < distance - 1e-12).any():
        raise ValueError(f"distance is {distance}; the policies are only {span.min():.3g} apart in some state")
    return policy + (other - policy) * (distance / np.maximum(span, 1e-300))


def policy_distance(pi: FloatArray, mu: FloatArray) -> float:
    """eps of theorems 3 and 4: the largest L1 distance over states of two policies [S, J]."""
    return float(np.abs(pi - mu).sum(-1).max())


def epsilon_greedy_distance(epsilon: float, n_agents: int, n_actions: int) -> float:
    """eps of theorems 3 and 4 between a greedy team and the same team with each agent's epsilon-greedy exploration.

    The team plays its greedy joint action with probability p = (1 - epsilon (A - 1)/A)^N; the L1 distance is
    2 (1 - p), which tends to 2, the largest there is, as the team grows.
    """
    return 2.0 * (1.0 - (1.0 - epsilon * (n_actions - 1) / n_actions) ** n_agents)


# --- values and updates -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimator:
    """A row of the module's table.

    Attributes:
        trace: (pi, mu, lambda), policies [S, J] -> c [S, J].
        average: the policy that next values are averaged over, "pi" or "mu".
    """

    trace: Callable[[FloatArray, FloatArray, float], FloatArray]
    average: Literal["pi", "mu"] = "pi"


def _ratio(pi: FloatArray, mu: FloatArray) -> FloatArray:
    """pi / mu [S, J], 0 where neither plays."""
    if ((mu <= 0) & (pi > 0)).any():
        raise ValueError("mu is 0 for an action that pi plays; importance ratios need mu > 0 there")
    return np.divide(pi, mu, out=np.zeros_like(pi), where=mu > 0)


ESTIMATORS: Mapping[str, Estimator] = {
    "one_step": Estimator(lambda pi, mu, lam: np.zeros_like(pi)),
    "smix": Estimator(lambda pi, mu, lam: np.full_like(pi, lam), "mu"),
    "q_lambda": Estimator(lambda pi, mu, lam: np.full_like(pi, lam)),
    "tree_backup": Estimator(lambda pi, mu, lam: lam * pi),
    "retrace": Estimator(lambda pi, mu, lam: lam * np.minimum(1.0, _ratio(pi, mu))),
    "importance": Estimator(lambda pi, mu, lam: lam * _ratio(pi, mu)),
}


def update(name: str, mdp: TeamMDP, q: FloatArray, pi: FloatArray, mu: FloatArray, lam: float) -> FloatArray:
    """One expected update (equation 7) of every value at once: q, pi, mu [S, J] -> [S, J]; see the module's table.

    Raises:
        ValueError: an unknown estimator (the nearest is named), lambda outside [0, 1], or ratios without support.
    """
    matrix, offset = affine(name, mdp, pi, mu, lam)
    return (matrix @ q.ravel() + offset).reshape(q.shape)


def affine(name: str, mdp: TeamMDP, pi: FloatArray, mu: FloatArray, lam: float) -> tuple[FloatArray, FloatArray]:
    """The update as ``matrix @ q + offset`` with q flattened: [S*J, S*J] and [S*J].

    Repeated updates with fixed policies converge from any start exactly if the matrix's spectral radius is below 1.
    """
    check_name("estimator", name, ESTIMATORS)
    if not 0.0 <= lam <= 1.0:
        raise ValueError(f"lambda is {lam}; it should lie between 0 (one step) and 1")
    row = ESTIMATORS[name]
    traces = mdp.gamma * step_matrix(mdp, mu * row.trace(pi, mu, lam))
    averages = mdp.gamma * step_matrix(mdp, pi if row.average == "pi" else mu)
    identity = np.eye(len(traces))
    # Q + (I - T)^-1 (r + E Q - Q) = (I - T)^-1 ((E - T) Q + r)
    solved = np.linalg.solve(identity - traces, np.column_stack((averages - traces, mdp.reward.ravel())))
    return solved[:, :-1].astype(np.float64), solved[:, -1].astype(np.float64)


def step_matrix(mdp: TeamMDP, weights: FloatArray) -> FloatArray:
    """[S*J, S*J]: P(s' | s, a) times ``weights[s', a']``, [S, J]; with a policy as weights, the chain it makes."""
    size = mdp.reward.size
    return (mdp.transition[:, :, :, None] * weights).reshape(size, size)


def policy_values(mdp: TeamMDP, policy: FloatArray) -> FloatArray:
    """Q of a policy [S, J], exactly: the solution of Q = r + gamma P^policy Q."""
    identity = np.eye(mdp.reward.size)
    solution = np.linalg.solve(identity - mdp.gamma * step_matrix(mdp, policy), mdp.reward.ravel())
    return solution.reshape(mdp.reward.shape).astype(np.float64)


def optimal_values(mdp: TeamMDP) -> FloatArray:
    """Q* [S, J] by policy iteration, exact when the greedy policy no longer changes."""
    q = policy_values(mdp, np.full(mdp.reward.shape, 1.0 / mdp.reward.shape[1]))
    for _ in range(1000):
        better = policy_values(mdp, np.eye(q.shape[1])[q.argmax(-1)])
        if np.abs(better - q).max() <= 1e-12 * max(1.0, np.abs(q).max()):
            break
        q = better
    return better


# --- what the paper proves ----------------------------------------------------------------------------------------


def theorem_3_bound(distance: float, gamma: float, lam: float, largest: float) -> float:
    """eps gamma / (1 - lambda gamma) M, equation 19; ``largest`` is M = max |Q|."""
    return distance * gamma * largest / (1.0 - lam * gamma)


def theorem_4_limit(gamma: float) -> float:
    """(1 - gamma)/gamma: Q(lambda) with fixed policies converges if lambda * eps lies below it."""
    return (1.0 - gamma) / gamma


def switching_diverges(lam: float, distance: float, gamma: float) -> bool:
    """Whether Q(lambda) diverges on the switching MDP for some pair of its policies at this distance; exact.

    With x and y the eigenvalues of pi and mu on the difference of the two states (stay with p: 2p - 1), the update's
    is gamma (x - lambda y)/(1 - lambda gamma y); x = y - eps makes it leave the unit circle first, at y = 1 for
    lambda >= 1/2 and else at y = eps - 1.
    """
    y = 1.0 if lam >= 0.5 else distance - 1.0
    return y * (2.0 * lam - 1.0) + distance > 1.0 / gamma


# --- variance of returns ------------------------------------------------------------------------------------------


def ratio_second_moment(pi: FloatArray, mu: FloatArray) -> float:
    """E_mu[(pi/mu)^2] of one agent's decision, pi and mu [A].

    Independent decisions multiply: the product of the ratios of N such agents over T steps has mean 1 and variance
    ``ratio_second_moment ** (N * T) - 1``.
    """
    return float((_ratio(pi[None], mu[None])[0] * pi).sum())


def repeated_game_moments(
    weights: FloatArray, traces: FloatArray, rewards: FloatArray, gamma: float, n_steps: int
) -> tuple[float, float]:
    """Mean and variance of sum_{k=1..T} (prod_{i<=k} gamma c_i) r_k where every step is drawn alike and alone.

    That is equation 7's sum after its first term, for values of 0. Exact, by the recursion
    X_t = gamma c_t (r_t + X_{t+1}) for the first two moments.

    Args:
        weights, traces, rewards: [K], probability under mu, trace c and reward of each outcome of a step.
    """
    scaled = gamma * traces
    first = second = 0.0
    for _ in range(n_steps):
        # The right-hand sides need the later step's moments, both of them.
        first, second = (
            float(weights @ (scaled * (rewards + first))),
            float(weights @ (scaled**2 * (rewards**2 + 2.0 * rewards * first + second))),
        )
    return first, second - first**2
