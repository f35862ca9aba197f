"""Another library's PPO on SMAC's 3m: stable-baselines3 through SuperSuit's vector wrappers.

    pip install "smix-pz[supersuit]" stable-baselines3
    python examples/supersuit_ppo.py                      # 1,500,000 agent steps (500,000 of the environment)
    python examples/supersuit_ppo.py --map 2s3z --steps 300000 --seed 1

One network plays all agents (`agent_indicator_v0` tells it which), each from its own observation. PPO of
stable-baselines3 knows no action masks, so it has to learn which actions are legal: an illegal one becomes `stop`
(a dead agent's: nothing), and `info["illegal_actions"]` counts them. docs/environments.md says what was reached.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import supersuit
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from smix_pz.envs import smac_sim_v0


def make(map_name: str) -> Any:
    """The battle as SuperSuit takes it: observations are arrays, and the dead stay with an observation of zeros."""
    env = smac_sim_v0.parallel_env(map_name, flat_obs=True)
    return supersuit.agent_indicator_v0(supersuit.black_death_v3(env))


def play(model: PPO, map_name: str, episodes: int, seed: int) -> tuple[float, float, float]:
    """Greedy play: share of battles won, mean return, share of living agents' actions that were illegal."""
    env, won, returns, illegal, taken = make(map_name), [], [], 0, 0
    for episode in range(episodes):
        observations, infos = env.reset(seed=seed + episode)
        total, victory, masks = 0.0, False, {a: info["action_mask"] for a, info in infos.items()}
        while env.agents:
            names = list(observations)
            chosen, _ = model.predict(np.stack([observations[name] for name in names]), deterministic=True)
            actions = {name: int(action) for name, action in zip(names, chosen, strict=True)}
            taken += len(masks)
            illegal += sum(not mask[actions[name]] for name, mask in masks.items())
            observations, rewards, _, _, infos = env.step(actions)
            total += max(rewards.values(), default=0.0)  # shared; black_death_v3 pays the dead nothing
            victory = victory or any(info.get("battle_won", False) for info in infos.values())
            masks = {a: infos[a]["action_mask"] for a in env.unwrapped.agents}
        won.append(victory)
        returns.append(total)
    return float(np.mean(won)), float(np.mean(returns)), illegal / max(taken, 1)


class Report(BaseCallback):
    """Prints the greedy win rate now and then."""

    def __init__(self, map_name: str, every: int, episodes: int) -> None:
        super().__init__()
        self.map_name, self.every, self.episodes = map_name, every, episodes
        self.next, self.started = 0, time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.next:
            self.next += self.every
            self.show(self.episodes)

    def show(self, episodes: int) -> None:
        """Play `episodes` battles and print a line."""
        won, total, illegal = play(self.model, self.map_name, episodes, seed=10_000)
        print(
            f"{self.num_timesteps:>9,} agent steps, {time.perf_counter() - self.started:5.0f} s: won {won:.2f} of "
            f"{episodes}, return {total:5.2f}, illegal actions {illegal:.1%}",
            flush=True,
        )


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", default="3m")
    parser.add_argument("--steps", type=int, default=1_500_000, help="agent steps")
    parser.add_argument("--envs", type=int, default=8, help="battles played side by side")
    parser.add_argument("--eval-episodes", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(1)  # a small network: more threads wait for each other
    agents = supersuit.pettingzoo_env_to_vec_env_v1(make(options.map))
    battles = supersuit.concat_vec_envs_v1(agents, options.envs, num_cpus=0, base_class="stable_baselines3")
    # SuperSuit's vector environment has no seed() for PPO to call: its battles are seeded here, the network by torch.
    battles.venv.reset(seed=options.seed)
    battles.seed = lambda seed=None: [None] * battles.num_envs
    model = PPO(
        "MlpPolicy", battles, n_steps=128, batch_size=768, n_epochs=4, learning_rate=5e-4, ent_coef=0.005,
        gamma=0.99, gae_lambda=0.95, seed=options.seed, device="cpu",
    )  # fmt: skip
    report = Report(options.map, every=options.steps // 10, episodes=min(32, options.eval_episodes))
    model.learn(options.steps, callback=report)
    report.show(options.eval_episodes)


if __name__ == "__main__":
    main()
