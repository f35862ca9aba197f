"""Algorithms as compositions: agent network x mixer x return estimator x replay.

``ALGORITHMS`` is the table; a -R method is its baseline with SMIX's estimator and replay, nothing else. (COMA has that
estimator already, so COMA-R is COMA with the replay.) The setting ``estimator`` puts any other in a row's place, and
``resolve`` refuses those that would be silently wrong there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from smix_pz.algorithms.agents import make_agent
from smix_pz.algorithms.coma import COMALearner
from smix_pz.algorithms.learner import Learner
from smix_pz.algorithms.mixers import MIXERS
from smix_pz.algorithms.qtran import QTRANLearner
from smix_pz.algorithms.returns import ESTIMATORS, LAMBDA_TAKEN, N_STEP_TAKEN, ONE_STEP, ReturnEstimator
from smix_pz.algorithms.value_learner import ValueLearner
from smix_pz.config import Hyperparameters
from smix_pz.images import Image
from smix_pz.names import check_name


@dataclass(frozen=True)
class Algorithm:
    """One row of the table.

    Attributes:
        mixer: a name in ``MIXERS``, or what stands in its place: "joint" is QTRAN's free joint value,
            "counterfactual" COMA's critic.
        returns: the return estimator.
        buffer_size: most recent episodes in replay; 0 is on-policy, the newest group and all of it.
        summary: one line for people, with the source.
    """

    name: str
    mixer: str
    returns: ReturnEstimator
    buffer_size: int
    summary: str

    @property
    def uses_state(self) -> bool:
        """Whether anything reads the state; without a mixer, and in a plain sum, nothing does."""
        return self.mixer not in ("none", "sum")


_BASELINE_REPLAY, _SMIX_REPLAY = 5000, 1500

_IQL = Algorithm("iql", "none", ONE_STEP, _BASELINE_REPLAY, "independent Q-learning (Tan 1993)")
_VDN = Algorithm("vdn", "sum", ONE_STEP, _BASELINE_REPLAY, "value decomposition (Sunehag et al. 2018)")
_QMIX = Algorithm("qmix", "monotonic", ONE_STEP, _BASELINE_REPLAY, "monotonic mixing (Rashid et al. 2018)")
_COMA = Algorithm("coma", "counterfactual", LAMBDA_TAKEN, 0, "counterfactual actor-critic (Foerster et al. 2018)")
_QTRAN = Algorithm("qtran", "joint", ONE_STEP, _BASELINE_REPLAY, "QTRAN-base (Son et al. 2019)")


def _revised(base: Algorithm, name: str, summary: str) -> Algorithm:
    return replace(base, name=name, returns=LAMBDA_TAKEN, buffer_size=_SMIX_REPLAY, summary=summary)


_SMIX = _revised(_QMIX, "smix", "SMIX(lambda): QMIX's network, lambda-returns of taken actions (Yao et al. 2021)")

ALGORITHMS: dict[str, Algorithm] = {
    row.name: row
    for row in (
        _IQL,
        _VDN,
        _QMIX,
        _QTRAN,
        _SMIX,
        _revised(_IQL, "iql-r", "IQL with SMIX's estimator"),
        _revised(_VDN, "vdn-r", "VDN with SMIX's estimator"),
        _revised(_QTRAN, "qtran-r", "QTRAN with SMIX's estimator"),
        _COMA,
        _revised(_COMA, "coma-r", "COMA with a critic that learns from replay, as SMIX's value does"),
        replace(_SMIX, name="smix-n", returns=N_STEP_TAKEN, summary="SMIX(n): n-step in place of lambda-returns"),
        replace(_SMIX, name="smix-onpolicy", buffer_size=4, summary="SMIX on its 4 newest episodes only"),
        replace(_SMIX, name="smix-noabs", mixer="unconstrained", summary="SMIX without the non-negative weights"),
        replace(_QMIX, name="qmix-noabs", mixer="unconstrained", summary="QMIX without the non-negative weights"),
    )
}


def resolve(name: str, hyper: Hyperparameters) -> Algorithm:
    """The row ``name`` with the settings' own estimator, lambda, n and replay size.

    Raises:
        ValueError: no such row or estimator (the nearest is named), an estimator that would be wrong for the row, or
            a setting that nothing in it uses.
    """
    check_name("algorithm", name, ALGORITHMS)
    row = ALGORITHMS[name]
    if hyper.estimator is not None:
        check_name("estimator", hyper.estimator, ESTIMATORS)
        if hyper.estimator != row.returns.kind:
            row = replace(row, returns=ReturnEstimator(hyper.estimator))  # type: ignore[arg-type]
    returns = row.returns
    for setting, used in (("td_lambda", returns.has_lambda), ("n_step", returns.kind == "n-step")):
        value = getattr(hyper, setting)
        if value is None:
            continue
        if not used:
            having = "one that has a lambda, such as peng or lambda" if setting == "td_lambda" else "n-step"
            raise ValueError(
                f"{setting} is {value}, but {name} uses the {returns.kind} estimator, which ignores it; "
                f"set estimator to {having}"
            )
        returns = replace(returns, **{setting: value})
    row = replace(row, returns=returns)
    _check_target_policy(row, hyper)
    if row.buffer_size == 0 and hyper.buffer_size is not None:
        raise ValueError(
            f"buffer_size is {hyper.buffer_size}, but {name} learns on-policy, from its newest group "
            f"(parallel_episodes = {hyper.parallel_episodes}); {name}-r has a replay"
        )
    return replace(row, buffer_size=hyper.buffer_size or row.buffer_size)


def _check_target_policy(row: Algorithm, hyper: Hyperparameters) -> None:
    """Refuse what would be silently wrong or silently ignored about the policy that is evaluated."""
    kind, name = row.returns.kind, row.name
    if row.returns.bootstrap == "taken":
        for setting, default in (("double_q", True), ("target_epsilon", 0.0), ("expectation", "exact")):
            if getattr(hyper, setting) != default:
                raise ValueError(
                    f"{setting} is {getattr(hyper, setting)}, but {name} with the {kind} estimator never bootstraps "
                    "from greedy actions, only from taken ones, so it has no use for it"
                )
        return
    if row.mixer == "counterfactual":
        raise ValueError(
            f"the {kind} estimator needs the expected value of a joint action, but {name}'s critic gives the values of "
            "one agent's actions beside the others' taken ones: the expectation over all agents would take a critic "
            "evaluation for each joint action of the others. Estimators for it: lambda, n-step, monte-carlo"
        )
    if hyper.expectation != "exact":
        if hyper.target_epsilon == 0.0:
            raise ValueError(
                f'expectation is "{hyper.expectation}", but with target_epsilon 0 the target policy is greedy, and the '
                "expected value is that of one joint action: exact at no cost"
            )
        if row.mixer not in MIXERS or _is_linear(row.mixer):
            why = "its value is exact at the same cost" if row.mixer in MIXERS else "it has no mixer"
            raise ValueError(f'expectation is "{hyper.expectation}", but {name} has no use for it: {why}')
    if kind == "importance-sampling" and min(hyper.epsilon_start, hyper.epsilon_finish) == 0.0:
        raise ValueError(
            "epsilon_start and epsilon_finish are "
            f"{hyper.epsilon_start} and {hyper.epsilon_finish}, but importance sampling needs a behaviour that gives "
            "every action of the target policy some probability: use an epsilon above 0, or the retrace estimator"
        )


JOINT_EXPECTATION_LIMIT = 1024


def _is_linear(mixer: str) -> bool:
    return mixer in MIXERS and MIXERS[mixer](1, 1, 1, 1).is_linear


def _check_expectation(algorithm: Algorithm, hyper: Hyperparameters, n_agents: int, n_actions: int) -> None:
    """Refuse an exact expectation over too many joint actions."""
    if algorithm.returns.bootstrap == "taken" or hyper.target_epsilon == 0.0 or hyper.expectation != "exact":
        return
    if not _is_linear(algorithm.mixer) and n_actions**n_agents > JOINT_EXPECTATION_LIMIT:
        instead = (
            'expectation "mean-field" approximates it, ' if algorithm.mixer in MIXERS else ""
        ) + "target_epsilon 0 needs one joint action alone, and vdn's is exact at any size"
        raise ValueError(
            f"target_epsilon is {hyper.target_epsilon}: {algorithm.name}'s exact expected value is a sum over "
            f"{n_actions}^{n_agents} = {n_actions**n_agents} joint actions, more than {JOINT_EXPECTATION_LIMIT}; "
            f"{instead}"
        )


def check_individual(algorithm: Algorithm, n_rewards: int) -> None:
    """Refuse agents that are paid each their own where one team value is learned.

    Raises:
        ValueError: ``n_rewards`` above 1 with anything but independent learners.
    """
    if n_rewards > 1 and algorithm.mixer != "none":
        independent = ", ".join(name for name, row in ALGORITHMS.items() if row.mixer == "none")
        raise ValueError(
            f'the reward rule is "individual", but {algorithm.name} learns one value of the team; independent learners '
            f'({independent}) can, and "mean", "sum" or "first" make one reward'
        )


# What stands in a mixer's place brings its own learner.
_OWN_LEARNERS: dict[str, Callable[..., Learner]] = {"joint": QTRANLearner, "counterfactual": COMALearner}


def register(row: Algorithm, learner: Callable[..., Learner] | None = None) -> Algorithm:
    """Add a row to the table, from outside the package; studies and the command then know its name.

    Args:
        row: usually ``dataclasses.replace(ALGORITHMS["qmix"], name="mine", ...)``.
        learner: where the row needs its own: called as ``Learner`` is, for rows with ``row.mixer``, whose name then has
            to be a new one.

    Raises:
        ValueError: the name, or the mixer of a row with its own learner, is taken, or there is no such mixer.
    """
    if row.name in ALGORITHMS:
        raise ValueError(f"there is an algorithm {row.name!r} already; give yours another name")
    if learner is not None:
        if row.mixer in MIXERS or row.mixer in _OWN_LEARNERS:
            raise ValueError(
                f"the mixer {row.mixer!r} of {row.name!r} is taken; with a learner of its own it is a new name"
            )
        _OWN_LEARNERS[row.mixer] = learner
    else:
        check_name("mixer", row.mixer, [*MIXERS, *_OWN_LEARNERS])
    ALGORITHMS[row.name] = row
    return row


def make_learner(
    algorithm: Algorithm,
    *,
    n_agents: int,
    n_actions: int,
    obs_dim: int,
    state_dim: int,
    obs_image: Image | None = None,
    obs_scale: float = 1.0,
    hyper: Hyperparameters,
    rngs: Sequence[np.random.Generator],
    device: torch.device,
) -> Learner:
    """The learner of an algorithm for a team of this shape, one run for each generator.

    obs_image: shape of the observations if they are images; obs_scale: factor on them.

    Raises:
        ValueError: an expected value over more joint actions than can be summed; a CNN where there are no images.
    """
    _check_expectation(algorithm, hyper, n_agents, n_actions)
    agent = make_agent(
        hyper, n_agents=n_agents, n_actions=n_actions, obs_dim=obs_dim, obs_image=obs_image, obs_scale=obs_scale
    )
    if algorithm.mixer in _OWN_LEARNERS:
        return _OWN_LEARNERS[algorithm.mixer](agent, state_dim, algorithm.returns, hyper, rngs, device)
    check_name("mixer", algorithm.mixer, MIXERS)
    return ValueLearner(agent, state_dim, algorithm.mixer, algorithm.returns, hyper, rngs, device)


__all__ = [
    "ALGORITHMS",
    "ESTIMATORS",
    "Algorithm",
    "Learner",
    "ReturnEstimator",
    "check_individual",
    "make_learner",
    "register",
    "resolve",
]
