"""The table of algorithms: what a -R row changes, and what `resolve` refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from oracle.batches import random_batch

from smix_pz.algorithms import ALGORITHMS, ESTIMATORS, make_learner, resolve
from smix_pz.algorithms.coma import COMALearner, CounterfactualCritic
from smix_pz.algorithms.encoders import FlatEncoder
from smix_pz.algorithms.mixers import MIXERS, MonotonicMixer
from smix_pz.algorithms.qtran import QTRANLearner
from smix_pz.algorithms.returns import ReturnEstimator
from smix_pz.algorithms.value_learner import ValueLearner
from smix_pz.config import Hyperparameters

SHAPE = {"n_agents": 2, "n_actions": 3, "obs_dim": 3, "state_dim": 4}


def differences(one: str, other: str) -> dict[str, object]:
    """Fields in which two rows differ, with the other's values."""
    a, b = dataclasses.asdict(ALGORITHMS[one]), dataclasses.asdict(ALGORITHMS[other])
    return {key: b[key] for key in a if a[key] != b[key] and key not in ("name", "summary")}


@pytest.mark.parametrize(
    ("base", "revised"), [("iql", "iql-r"), ("vdn", "vdn-r"), ("qtran", "qtran-r"), ("qmix", "smix")]
)
def test_revised_rows_change_estimator_and_replay(base: str, revised: str) -> None:
    """The paper's -R methods; SMIX is QMIX's."""
    lambda_taken = {"kind": "lambda", "td_lambda": 0.8, "n_step": 4}
    assert differences(base, revised) == {"returns": lambda_taken, "buffer_size": 1500}
    assert ALGORITHMS[base].returns.kind == "one-step" and ALGORITHMS[base].returns.bootstrap == "expected"
    assert ALGORITHMS[revised].returns.bootstrap == "taken"
    assert ALGORITHMS[base].buffer_size == 5000


def test_coma_has_lambda_returns_already_and_coma_r_adds_the_replay() -> None:
    """COMA learns on-policy (0: its newest group); the actor of both does."""
    assert differences("coma", "coma-r") == {"buffer_size": 1500}
    assert ALGORITHMS["coma"].buffer_size == 0 and ALGORITHMS["coma"].returns == ALGORITHMS["smix"].returns


def test_variants_change_one_thing() -> None:
    four_step = {"kind": "n-step", "td_lambda": 0.8, "n_step": 4}
    assert differences("smix", "smix-n") == {"returns": four_step}
    assert differences("smix", "smix-onpolicy") == {"buffer_size": 4}
    assert differences("smix", "smix-noabs") == differences("qmix", "qmix-noabs") == {"mixer": "unconstrained"}


def test_rows_are_well_formed() -> None:
    assert {"iql", "vdn", "qmix", "qtran", "smix", "iql-r", "vdn-r", "qtran-r", "coma", "coma-r"} <= set(ALGORITHMS)
    for name, row in ALGORITHMS.items():
        assert row.name == name and row.summary and row.mixer in (*MIXERS, "joint", "counterfactual")
    assert len({row.summary for row in ALGORITHMS.values()}) == len(ALGORITHMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_learner_is_the_rows(name: str) -> None:
    hyper = Hyperparameters(
        hidden_dim=5, mixing_embed_dim=7, hypernet_layers=2, coma_critic_dim=9, parameter_sharing=False
    )
    row = resolve(name, hyper)
    rngs = [np.random.default_rng(0), np.random.default_rng(1)]
    learner = make_learner(row, **SHAPE, hyper=hyper, rngs=rngs, device=torch.device("cpu"))
    assert learner.n_runs == 2 and learner.returns == row.returns
    assert learner.agent.hidden_dim == 5 and not learner.agent.parameter_sharing
    if row.mixer == "joint":
        assert isinstance(learner, QTRANLearner)
    elif row.mixer == "counterfactual":
        assert isinstance(learner, COMALearner)
        assert learner.critic == CounterfactualCritic(2, 3, 3, 4, 9, FlatEncoder(3))
    else:
        assert isinstance(learner, ValueLearner)
        assert learner.mixer == MIXERS[row.mixer](2, 4, 7, 2)
    if isinstance(mixer := getattr(learner, "mixer", None), MonotonicMixer):
        assert mixer.monotonic == (not name.endswith("noabs"))


def test_resolve_takes_the_settings_own_values() -> None:
    assert resolve("smix", Hyperparameters()) == ALGORITHMS["smix"]
    own = resolve("smix", Hyperparameters(td_lambda=0.3, buffer_size=77))
    assert (own.returns.td_lambda, own.returns.bootstrap, own.buffer_size) == (0.3, "taken", 77)
    peng = resolve("qmix", Hyperparameters(estimator="peng", td_lambda=0.3))
    assert peng == dataclasses.replace(ALGORITHMS["qmix"], returns=ReturnEstimator("peng", td_lambda=0.3))
    # A named estimator is the row's own with the same settings; a -R row is its baseline with two settings.
    assert resolve("smix", Hyperparameters(estimator="lambda")) == ALGORITHMS["smix"]
    remade = resolve("vdn", Hyperparameters(estimator="lambda", buffer_size=1500))
    assert dataclasses.replace(remade, name="vdn-r", summary=ALGORITHMS["vdn-r"].summary) == ALGORITHMS["vdn-r"]
    assert resolve("smix", Hyperparameters(td_lambda=0.0)).returns.td_lambda == 0.0
    assert resolve("smix-n", Hyperparameters(n_step=2)).returns.n_step == 2
    assert ALGORITHMS["smix"].returns.td_lambda == 0.8
    assert resolve("coma", Hyperparameters(td_lambda=0.3)).returns.td_lambda == 0.3
    assert resolve("coma-r", Hyperparameters(buffer_size=77)).buffer_size == 77


def test_exploration_is_the_rows() -> None:
    """COMA's floor has settings of its own; the others' epsilon is what it was."""
    hyper = Hyperparameters(epsilon_finish=0.2, coma_epsilon_start=0.4, coma_epsilon_steps=1000)
    for name, row in ALGORITHMS.items():
        made = make_learner(row, **SHAPE, hyper=hyper, rngs=[np.random.default_rng(0)], device=torch.device("cpu"))
        found, at = made.exploration, np.array([0, 500, 50_000])
        if name in ("coma", "coma-r"):
            assert found.behaviour == "softmax"
            np.testing.assert_allclose(found.epsilon(at), [0.4, 0.205, 0.01])
        else:
            assert found.behaviour == "epsilon-greedy"
            np.testing.assert_allclose(found.epsilon(at), [1.0, 0.992, 0.2])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("smxi", {}, "unknown algorithm 'smxi'; did you mean 'smix'.*qtran"),
        ("qmix_noabs", {}, "did you mean 'qmix-noabs'"),
        ("", {}, "unknown algorithm ''; known: "),
        ("smix-n", {"td_lambda": 0.5}, "td_lambda is 0.5, but smix-n uses the n-step estimator"),
        ("qmix", {"td_lambda": 0.5}, "td_lambda is 0.5, but qmix uses the one-step estimator.*peng"),
        ("smix", {"n_step": 3}, "n_step is 3, but smix uses the lambda estimator.*n-step"),
        ("qtran", {"n_step": 1}, "n_step is 1, but qtran"),
        ("coma", {"n_step": 3}, "n_step is 3, but coma uses the lambda estimator"),
        ("coma-r", {"double_q": False}, "double_q is False, but coma-r with the lambda.* never bootstraps from greedy"),
        ("smix", {"double_q": False}, "double_q is False, but smix with the lambda estimator never bootstraps"),
        ("vdn-r", {"target_epsilon": 0.1}, "target_epsilon is 0.1, but vdn-r"),
        ("qmix", {"estimator": "retarce"}, "unknown estimator 'retarce'; did you mean 'retrace'"),
        ("qmix", {"estimator": "monte-carlo", "td_lambda": 0.5}, "td_lambda is 0.5, but qmix uses the monte-carlo"),
        ("coma", {"estimator": "retrace"}, "the retrace estimator needs the expected value.*lambda, n-step, monte"),
        ("vdn", {"expectation": "mean-field"}, "with target_epsilon 0 the target policy is greedy"),
        ("vdn", {"expectation": "mean-field", "target_epsilon": 0.1}, "vdn has no use for it: its value is exact"),
        ("qtran", {"expectation": "mean-field", "target_epsilon": 0.1}, "qtran has no use for it: it has no mixer"),
        ("qmix", {"estimator": "importance-sampling", "epsilon_finish": 0.0}, "importance sampling needs a behaviour"),
        ("coma", {"buffer_size": 8}, "buffer_size is 8, but coma learns on-policy.*coma-r has a replay"),
    ],
)
def test_resolve_refuses(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(name, Hyperparameters(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_with_every_estimator_trains_or_is_refused_with_a_reason(name: str, estimator: str) -> None:
    """Three updates, finite, that move every run; or an error that names an estimator which does work."""
    hyper = Hyperparameters(estimator=estimator, hidden_dim=4, mixing_embed_dim=4, coma_critic_dim=4)
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    expected = estimator in ("one-step", "peng", "q-lambda", "tree-backup", "retrace", "importance-sampling")
    if name in ("coma", "coma-r") and expected:
        with pytest.raises(ValueError, match=f"the {estimator} estimator needs .* Estimators for it: lambda"):
            resolve(name, hyper)
        return
    learner = make_learner(resolve(name, hyper), **SHAPE, hyper=hyper, rngs=rngs, device=torch.device("cpu"))
    before = learner.stack.online.clone()
    for k in range(3):
        metrics = learner.update(random_batch(np.random.default_rng(k), n_runs=2, **SHAPE))
    assert all(value.isfinite().all() for value in metrics.values()) and learner.stack.online.isfinite().all()
    assert ((learner.stack.online - before).abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize(("name", "advice"), [("qmix", "mean-field"), ("qtran", "target_epsilon 0")])
def test_expectations_over_too_many_joint_actions_are_refused(name: str, advice: str) -> None:
    """Before anything is computed; VDN's are exact at any size."""
    hyper, large = Hyperparameters(target_epsilon=0.1), {**SHAPE, "n_agents": 7}

    def make(name: str, hyper: Hyperparameters) -> object:
        rngs = [np.random.default_rng(0)]
        return make_learner(resolve(name, hyper), **large, hyper=hyper, rngs=rngs, device=torch.device("cpu"))

    with pytest.raises(ValueError, match=rf"{name}.*3\^7 = 2187 joint actions.*{advice}"):
        make(name, hyper)
    make("vdn", hyper)
    make("qmix", Hyperparameters(target_epsilon=0.1, expectation="mean-field"))
    make(name, Hyperparameters(estimator="retrace"))


def test_unknown_mixer_is_named() -> None:
    row = dataclasses.replace(ALGORITHMS["smix"], mixer="monotone")
    with pytest.raises(ValueError, match="unknown mixer 'monotone'; did you mean 'monotonic'"):
        make_learner(row, **SHAPE, hyper=Hyperparameters(), rngs=[np.random.default_rng(0)], device=torch.device("cpu"))
