"""Algorithms as compositions: agent network x mixer x return estimator x replay.

``ALGORITHMS`` is the table; a -R method is its baseline with SMIX's estimator and replay, nothing else. (COMA has that
estimator already, so COMA-R is COMA with the replay.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from smix_pz.algorithms.agents import GRUAgent
from smix_pz.algorithms.coma import COMALearner
from smix_pz.algorithms.learner import Learner
from smix_pz.algorithms.mixers import MIXERS
from smix_pz.algorithms.qtran import QTRANLearner
from smix_pz.algorithms.returns import LAMBDA_TAKEN, N_STEP_TAKEN, ONE_STEP_GREEDY, ReturnEstimator
from smix_pz.algorithms.value_learner import ValueLearner
from smix_pz.config import Hyperparameters
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


_BASELINE_REPLAY, _SMIX_REPLAY = 5000, 1500

_IQL = Algorithm("iql", "none", ONE_STEP_GREEDY, _BASELINE_REPLAY, "independent Q-learning (Tan 1993)")
_VDN = Algorithm("vdn", "sum", ONE_STEP_GREEDY, _BASELINE_REPLAY, "value decomposition (Sunehag et al. 2018)")
_QMIX = Algorithm("qmix", "monotonic", ONE_STEP_GREEDY, _BASELINE_REPLAY, "monotonic mixing (Rashid et al. 2018)")
_COMA = Algorithm("coma", "counterfactual", LAMBDA_TAKEN, 0, "counterfactual actor-critic (Foerster et al. 2018)")
_QTRAN = Algorithm("qtran", "joint", ONE_STEP_GREEDY, _BASELINE_REPLAY, "QTRAN-base (Son et al. 2019)")


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
    """The row ``name`` with the settings' own lambda, n and replay size.

    Raises:
        ValueError: no such row (the nearest is named), or a setting that its estimator does not use.
    """
    check_name("algorithm", name, ALGORITHMS)
    row = ALGORITHMS[name]
    returns = row.returns
    for setting, kind in (("td_lambda", "lambda"), ("n_step", "n_step")):
        value = getattr(hyper, setting)
        if value is None:
            continue
        if returns.kind != kind:
            raise ValueError(f"{setting} is {value}, but {name} uses a {returns.kind} estimator, which ignores it")
        returns = replace(returns, **{setting: value})
    if row.mixer == "counterfactual" and not hyper.double_q:
        raise ValueError(f"double_q is False, but {name} never bootstraps from greedy actions, so it has no use for it")
    if row.buffer_size == 0 and hyper.buffer_size is not None:
        raise ValueError(
            f"buffer_size is {hyper.buffer_size}, but {name} learns on-policy, from its newest group "
            f"(parallel_episodes = {hyper.parallel_episodes}); {name}-r has a replay"
        )
    return replace(row, returns=returns, buffer_size=hyper.buffer_size or row.buffer_size)


# What stands in a mixer's place brings its own learner.
_OWN_LEARNERS = {"joint": QTRANLearner, "counterfactual": COMALearner}


def make_learner(
    algorithm: Algorithm,
    *,
    n_agents: int,
    n_actions: int,
    obs_dim: int,
    state_dim: int,
    hyper: Hyperparameters,
    rngs: Sequence[np.random.Generator],
    device: torch.device,
) -> Learner:
    """The learner of an algorithm for a team of this shape, one run for each generator."""
    agent = GRUAgent(obs_dim, n_agents, n_actions, hyper.hidden_dim, hyper.parameter_sharing)
    if algorithm.mixer in _OWN_LEARNERS:
        return _OWN_LEARNERS[algorithm.mixer](agent, state_dim, algorithm.returns, hyper, rngs, device)
    check_name("mixer", algorithm.mixer, MIXERS)
    return ValueLearner(agent, state_dim, algorithm.mixer, algorithm.returns, hyper, rngs, device)


__all__ = ["ALGORITHMS", "Algorithm", "Learner", "ReturnEstimator", "make_learner", "resolve"]
