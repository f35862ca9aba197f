"""Configuration: defaults are the paper's, plain values become fields, and mistakes are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from smix_pz.config import Hyperparameters, TrainConfig, from_dict
from smix_pz.names import check_name, nearest


def test_defaults_are_the_papers() -> None:
    """Section VI-B, and what its authors' code adds."""
    c = TrainConfig()
    assert (c.gamma, c.optimizer, c.learning_rate, c.grad_clip) == (0.99, "rmsprop", 5e-4, 10.0)
    assert c.optimizer_settings() == {"rms_alpha": 0.99, "rms_eps": 1e-5}
    assert (c.batch_size, c.parallel_episodes, c.updates_per_group, c.target_update_episodes) == (32, 4, 1, 200)
    assert (c.epsilon_start, c.epsilon_finish, c.epsilon_steps) == (1.0, 0.05, 50_000)
    assert (c.hidden_dim, c.mixing_embed_dim, c.hypernet_layers, c.parameter_sharing) == (64, 32, 1, True)
    assert (c.eval_every, c.eval_episodes) == (20_000, 24)
    assert (c.qtran_opt_weight, c.qtran_nopt_weight, c.qtran_embed_dim) == (1.0, 0.1, 64)
    assert (c.coma_epsilon_start, c.coma_epsilon_finish, c.coma_epsilon_steps) == (0.5, 0.01, 100_000)
    assert c.coma_critic_dim == 128


def test_optimizer_settings_are_the_chosen_ones() -> None:
    """Adam's defaults are torch's."""
    import torch

    theirs = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).defaults
    found = TrainConfig(optimizer="adam").optimizer_settings()
    assert found == {"adam_beta1": theirs["betas"][0], "adam_beta2": theirs["betas"][1], "adam_eps": theirs["eps"]}
    assert TrainConfig(optimizer="adam", adam_eps=1e-5).optimizer_settings() == {**found, "adam_eps": 1e-5}
    assert TrainConfig(rms_alpha=0.5).optimizer_settings() == {"rms_alpha": 0.5, "rms_eps": 1e-5}


def test_round_trip_through_json() -> None:
    """Lists become tuples, strings paths, whole numbers floats; None stays where a field allows it."""
    config = TrainConfig(
        env="payoff_game_v0", env_kwargs={"payoff": [[1, 2], [3, 4]]}, seeds=(3, 1, 2), out=Path("some/folder"),
        td_lambda=0.5, buffer_size=100, team_reward="mean", learning_rate=1e-3,
    )  # fmt: skip
    plain = json.loads(json.dumps(config.to_dict(), default=str))
    assert plain["seeds"] == [3, 1, 2] and plain["out"] == "some/folder"
    again = TrainConfig.from_dict(plain)
    assert again == config and isinstance(again.out, Path) and isinstance(again.seeds, tuple)
    assert TrainConfig.from_dict({}) == TrainConfig()
    assert from_dict(Hyperparameters, {"gamma": 1}) == Hyperparameters(gamma=1.0)
    assert isinstance(TrainConfig.from_dict({"gamma": 1}).gamma, float)


def test_every_field_has_a_docstring() -> None:
    """They become --help."""
    import ast
    import inspect

    import smix_pz.config

    classes = [n for n in ast.parse(inspect.getsource(smix_pz.config)).body if isinstance(n, ast.ClassDef)]
    for node in classes:
        for field, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant), ast.unparse(field)


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().gamma = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"gama": 0.9}, ValueError, "unknown setting 'gama'; did you mean 'gamma'"),
        ({"zzzzzz": 1}, ValueError, "unknown setting 'zzzzzz'; known: "),
        ({"gamma": 1.5}, ValueError, "gamma is 1.5; it should be between 0 and 1"),
        ({"gamma": float("nan")}, ValueError, "gamma is nan"),
        ({"td_lambda": -0.1}, ValueError, "td_lambda is -0.1"),
        ({"learning_rate": 0}, ValueError, "learning_rate is 0.0; it should be greater than 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"n_step": 0}, ValueError, "n_step is 0"),
        ({"hypernet_layers": 3}, ValueError, "hypernet_layers is 3; it should be 1 or 2"),
        ({"buffer_size": 3}, ValueError, "buffer_size is 3; it should hold at least one group"),
        ({"seeds": []}, ValueError, "seeds are"),
        ({"seeds": [1, 1]}, ValueError, r"seeds are \(1, 1\)"),
        ({"seeds": [-1]}, ValueError, "non-negative"),
        ({"gamma": "0.9"}, TypeError, "gamma is '0.9' .str.; expected"),
        ({"batch_size": 4.5}, TypeError, "batch_size is 4.5 .float."),
        ({"batch_size": True}, TypeError, "batch_size is True .bool."),
        ({"double_q": 1}, TypeError, "double_q is 1"),
        ({"learning_rate": True}, TypeError, "learning_rate is True"),
        ({"gamma": None}, TypeError, "gamma is None"),
        ({"seeds": 3}, TypeError, "seeds is 3"),
        ({"seeds": ["a"]}, TypeError, "seeds is 'a'"),
        ({"team_reward": "max"}, ValueError, "unknown team_reward 'max'; did you mean 'mean'"),
        ({"env_kwargs": [1]}, TypeError, "env_kwargs is"),
        ({"optimizer": "adm"}, ValueError, "unknown optimizer 'adm'; did you mean 'adam'"),
        ({"agent_network": "rnn"}, ValueError, "unknown agent_network 'rnn'.*known: ff, gru"),
        ({"image_encoder": "conv"}, ValueError, "unknown image_encoder 'conv'"),
        ({"optimizer": "adam", "rms_alpha": 0.9}, ValueError, "rms_alpha is 0.9, but the optimizer is adam.*adam_eps"),
        ({"adam_beta1": 0.9}, ValueError, "adam_beta1 is 0.9, but the optimizer is rmsprop.*rms_alpha, rms_eps"),
        ({"optimizer": "adam", "adam_beta2": 1.0}, ValueError, "adam_beta2 is 1.0; it should be from 0 to below 1"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TrainConfig.from_dict(values)


def test_ranges_hold_without_from_dict_too() -> None:
    for bad in ({"coma_epsilon_start": 1.5}, {"coma_epsilon_steps": 0}, {"coma_critic_dim": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            TrainConfig(**bad)  # type: ignore[arg-type]
    for bad in ({"rms_alpha": 1.1}, {"rms_eps": 0.0}, {"epsilon_start": -0.1}, {"epsilon_steps": 0}, {"hidden_dim": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            TrainConfig(**bad)  # type: ignore[arg-type]


def test_nearest_names() -> None:
    assert nearest("smxi", ["qmix", "smix", "vdn"]) == "did you mean 'smix'? known: qmix, smix, vdn"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    check_name("thing", "a", ["a", "b"])
    with pytest.raises(ValueError, match="unknown thing 'c'; known: a, b"):
        check_name("thing", "c", iter(["a", "b"]))
