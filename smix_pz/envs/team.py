"""The team view: any cooperative environment as one Gymnasium environment whose player is the whole team.

What a learner sees: `Dict(obs [N, O], state [S], action_mask [N, A])`, actions `MultiDiscrete([A] * N)`, one reward.

- Agents keep their place in the order of `possible_agents`, dead or alive.
- Observations of unlike sizes are padded with zeros; actions an agent does not have are masked.
- An absent agent (dead, or not yet born) has a zero observation and exactly one legal action, the placeholder 0, which
  is never sent to the environment. The observation and the reward of the step in which an agent dies are kept, because
  agents are counted by who was alive *before* the step.
- The team's episode ends when no agent is left: truncated if one of the last agents was (and was not terminated too),
  else terminated. The `episode_limit` truncates as well.
- Without a `state()`, the joined observations serve as the state; the log says so once for each environment.
- Where all agents see images of one shape, the spec says so, and images of uint8 stay uint8.
- A state made of pictures (12 x 12 pixels or more) is averaged to small grey ones, see `smix_pz.envs.pictures`.
- Infos that report success as `battle_won`, `win`, `won`, `is_success` or `success` become the team's `battle_won`.
- The masks of the last observation of a truncated episode are the environment's own, since a learner bootstraps there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Literal

import gymnasium
import numpy as np

from smix_pz.envs.adapters import as_parallel
from smix_pz.envs.checks import check_choice, check_int
from smix_pz.envs.foreign import (
    ActionReader,
    ObservationReader,
    RewardRule,
    check_parallel,
    find_engine,
    find_episode_limit,
    find_state_space,
    flat_box,
    flat_row,
    reward_function,
)
from smix_pz.envs.pictures import AGENT_SIDE, STATE_SIDE, GreyPicture, small_grey
from smix_pz.envs.spec import TeamSpec, team_action_space, team_observation_space

INFO_KEYS = ("dead_allies", "dead_enemies", "illegal_actions", "aborted")
WIN_KEYS = ("battle_won", "win", "won", "is_success", "success")

StateRule = Literal["observations"] | None
LARGEST_STATE = 2**16  # entries of a state that is taken without being asked for; a screen's pixels are more

log = logging.getLogger(__name__)
_without_state: set[str] = set()  # environments of which the log has said what serves as their state


def check_state_rule(state: Any) -> StateRule:
    """Return `state` if it is None or "observations", else raise ValueError."""
    if state is not None:
        check_choice("state rule", state, ("observations",))
    rule: StateRule = state
    return rule


class TeamEnv(gymnasium.Env):
    """A cooperative environment seen as one team.

    Args:
        env: a ParallelEnv, whose `possible_agents` fix the order of the N axis; or what `smix_pz.envs.adapters` can
            make one of: a turn-based (AEC) environment that is parallelizable, or a Gymnasium environment, of one agent
            or of several in tuples.
        reward: how the agents' rewards make the team's: None (they must be equal), "mean", "sum", "first" (that of the
            first agent alive before the step), "individual" (no team's reward: the info "agent_rewards", float32 [N],
            has each agent's own, 0 of absent ones, and their mean is reported), or a callable from {agent: reward} of
            the agents alive before the step to a number.
        episode_limit: most steps in an episode; None takes the environment's own (`episode_limit`, `max_cycles`, ...).
        env_id: the name to record.
        state: None: the environment's own `state()` where it has one; "observations": the joined observations.

    Raises:
        TypeError: not a ParallelEnv, nor a way to make one; an action space that is neither Discrete nor MultiDiscrete;
            an observation that cannot be flattened; reward neither a known rule nor callable.
        ValueError: no agents; unknown reward rule; no episode limit to be found; a MultiDiscrete action space with too
            many combinations. In `step`: unlike rewards without a
            rule; an action that an agent does not have. In `reset` and `step`: an agent that acts but has no legal
            action.
    """

    def __init__(
        self,
        env: Any,
        *,
        reward: RewardRule = None,
        episode_limit: int | None = None,
        env_id: str | None = None,
        state: StateRule = None,
    ) -> None:
        check_state_rule(state)
        env = as_parallel(env)
        check_parallel(env)
        self.env = env
        self.reward_rule = reward_function(reward)
        individual = reward == "individual"
        self.agent_names = tuple(str(agent) for agent in env.possible_agents)
        self._names: tuple[Any, ...] = tuple(env.possible_agents)
        self._index = {agent: index for index, agent in enumerate(self._names)}
        self._actions = {agent: ActionReader(env, agent) for agent in self._names}
        self._readers = {agent: ObservationReader(env.observation_space(agent), agent) for agent in self._names}
        self._state_space = find_state_space(env) if state is None else None
        metadata = getattr(env, "metadata", None) or {}
        name = env_id or str(env)
        limit = find_episode_limit(env) if episode_limit is None else check_int("episode_limit", episode_limit, 1)
        n_agents, obs_dim = len(self._names), max(reader.width for reader in self._readers.values())
        actions = tuple(reader.n for reader in self._actions.values())
        state_flat = None if self._state_space is None else flat_box(self._state_space, "the state")
        readers = tuple(self._readers.values())
        image = readers[0].image if all(reader.image == readers[0].image for reader in readers) else None
        is_bytes = image is not None and all(reader.is_bytes for reader in readers)
        self._grey: GreyPicture | None = None
        if self._state_space is not None:
            self._grey = small_grey(self._state_space, STATE_SIDE)
        elif image is not None and state is None:
            self._grey = small_grey(readers[0].space, AGENT_SIDE)
        state_width = obs_dim if state_flat is None else int(state_flat.shape[0])
        if self._grey is not None:
            state_width = self._grey.width
        if state is None:
            self._say_what_the_state_is(name)
        if state_flat is not None and self._grey is None and state_flat.shape[0] > LARGEST_STATE:
            raise ValueError(
                f"the state of {name} has {state_flat.shape[0]:,} entries ({self._state_space!r}), more than the "
                f'{LARGEST_STATE:,} that a mixer can sensibly read. state="observations" (--team-state observations) '
                "takes the agents' joined observations in its place, which preprocessing makes small."
            )
        self.team_spec = TeamSpec(
            n_agents=n_agents,
            n_actions=max(actions),
            obs_dim=obs_dim,
            state_dim=state_width * (n_agents if state_flat is None else 1),
            episode_limit=limit,
            agent_names=self.agent_names,
            agent_actions=actions,
            engine=find_engine(env),
            env_id=name,
            has_win=bool(metadata.get("has_win", False)),
            n_rewards=n_agents if individual else 1,
            obs_image=image,
            obs_dtype="uint8" if is_bytes else "float32",
            obs_scale=1.0 / max(reader.largest for reader in readers) if is_bytes else 1.0,
        )
        obs_bounds = self._padded_bounds()
        state_bounds: tuple[Any, Any]
        if self._grey is not None:
            state_bounds = (self._grey.low, self._grey.high)
        elif state_flat is None:
            scale = np.float32(self.team_spec.obs_scale)
            state_bounds = (obs_bounds[0].ravel() * scale, obs_bounds[1].ravel() * scale)
        else:
            state_bounds = (state_flat.low, state_flat.high)
        self.observation_space = team_observation_space(self.team_spec, obs_bounds, state_bounds)
        self.action_space = team_action_space(self.team_spec)
        self.metadata = {"render_modes": [], "render_fps": 10, **metadata}
        self.render_mode = getattr(env, "render_mode", None)
        self._steps = 0
        self._alive: list[Any] = []
        self._illegal: dict[Any, int] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode; `seed` and `options` go to the environment."""
        super().reset(seed=seed)
        keywords: dict[str, Any] = {} if options is None else {"options": options}
        observations, infos = self.env.reset(seed=seed, **keywords)
        self._steps = 0
        self._illegal = {}
        self._alive = list(self.env.agents)
        return self._view(observations, infos, self._alive, self._alive, strict=True), self._info(infos)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Play one index for each agent, [N]; the entries of absent agents are ignored."""
        if not self._alive:
            raise RuntimeError(f"step() of the team view of {self.env} was called without a running episode: reset().")
        before = self._alive
        observations, rewards, terminations, truncations, infos = self.env.step(self._joint_action(action, before))
        self._steps += 1
        flagged = {agent for agent in before if terminations.get(agent, False) or truncations.get(agent, False)}
        self._alive = [agent for agent in self.env.agents if agent not in flagged]
        ended = not self._alive
        cut = any(truncations.get(agent, False) and not terminations.get(agent, False) for agent in before)
        truncated = (ended and cut) or (not ended and self._steps >= self.team_spec.episode_limit)
        terminated = ended and not cut
        paid = {agent: float(rewards[agent]) for agent in before if agent in rewards}
        reward = float(self.reward_rule(paid)) if paid else 0.0
        acting = before if ended else self._alive
        view = self._view(observations, infos, {*before, *self._alive}, acting, strict=not ended)
        if truncated and not ended:
            self._alive = []
        info = self._info(infos)
        if self.team_spec.n_rewards > 1:
            info["agent_rewards"] = np.array([paid.get(agent, 0.0) for agent in self._names], np.float32)
        return view, reward, terminated, truncated, info

    def render(self) -> Any:
        """What the environment renders."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _joint_action(self, action: Any, alive: list[Any]) -> dict[Any, Any]:
        action = np.asarray(action)
        if action.shape != (len(self._names),) or action.dtype.kind not in "iu":
            raise ValueError(
                f"the team's action must be {len(self._names)} integers, one for each of {self.agent_names}, "
                f"got {action.dtype} of shape {action.shape}."
            )
        joint = {}
        for agent in alive:
            index, reader = int(action[self._index[agent]]), self._actions[agent]
            if not 0 <= index < reader.n:
                raise ValueError(f"action {index} of {agent} is outside its actions 0 to {reader.n - 1}.")
            joint[agent] = reader(index)
        return joint

    def _view(
        self, observations: dict, infos: dict, present: Collection, acting: Collection, strict: bool
    ) -> dict[str, np.ndarray]:
        """The team's observation.

        present: agents whose observations count: those alive before or after the step, so that of a dying one is kept.
        acting: agents whose masks count. strict: each of them must have a legal action.
        """
        spec = self.team_spec
        obs = np.zeros((spec.n_agents, spec.obs_dim), spec.obs_dtype)
        mask = np.zeros((spec.n_agents, spec.n_actions), np.int8)
        mask[:, 0] = 1
        for agent, index in self._index.items():
            own_mask = None
            if agent in present and agent in observations:
                row, own_mask = self._readers[agent](observations[agent])
                obs[index, : row.size] = row
            if agent in acting:
                info_mask = infos.get(agent, {}).get("action_mask")
                mask[index] = self._legal(agent, [own_mask, info_mask], strict)
        return {"obs": obs, "state": self._state(obs), "action_mask": mask}

    def _legal(self, agent: Any, reported: list[Any], strict: bool) -> np.ndarray:
        """Mask [A] of an agent that acts: its own actions, narrowed by every mask the environment reports."""
        n_actions = self._actions[agent].n
        legal = np.zeros(self.team_spec.n_actions, np.int8)
        legal[:n_actions] = 1
        for mask in reported:
            if mask is None:
                continue
            given = np.asarray(mask).ravel()
            if given.size != n_actions:
                raise ValueError(f"the action mask of {agent} has {given.size} entries, expected {n_actions}.")
            legal[:n_actions] &= given.astype(bool)
        if not legal.any():
            if strict:
                raise ValueError(f"{agent} is alive, but its action mask allows no action: it needs at least one.")
            legal[0] = 1
        return legal

    def _state(self, obs: np.ndarray) -> np.ndarray:
        if self._state_space is None:
            if self._grey is not None:
                return np.concatenate([self._grey(row) for row in obs])
            return obs.ravel().astype(np.float32) * np.float32(self.team_spec.obs_scale)
        state = self.env.state() if self._grey is not None else flat_row(self._state_space, self.env.state())
        expected = self.team_spec.state_dim if self._grey is None else self._grey.n_pixels
        if np.size(state) != expected:
            raise ValueError(f"state() of {self.env} has {np.size(state)} entries, expected {expected}.")
        return state if self._grey is None else self._grey(state)

    def _say_what_the_state_is(self, name: str) -> None:
        if name in _without_state or (self._state_space is not None and self._grey is None):
            return
        _without_state.add(name)
        if self._grey is None:
            log.info("%s has no state(): its agents' joined observations are the state.", name)
        elif self._state_space is None:
            words = "%s has no state(): small grey pictures of its agents' images, %d numbers each, are the state."
            log.info(words, name, self._grey.width)
        else:
            words = "%s has an image for its state(): a small grey picture of it, %d numbers, is the state."
            log.info(words, name, self._grey.width)

    def _info(self, infos: dict) -> dict[str, Any]:
        team: dict[str, Any] = {}
        for info in infos.values():
            team |= {key: info[key] for key in INFO_KEYS if isinstance(info, Mapping) and key in info}
        # Agents may be told one by one; the team has won if any of them has.
        told = [info for info in infos.values() if isinstance(info, Mapping)]
        reports = [info[key] for info in told for key in WIN_KEYS if key in info and np.ndim(info[key]) == 0]
        if reports:
            team["battle_won"] = any(bool(report) for report in reports)
        if "illegal_actions" in team:
            # Each agent is told of its own since the episode's start; those who have left count on with their last.
            self._illegal |= {
                agent: info["illegal_actions"] for agent, info in infos.items() if "illegal_actions" in info
            }
            team["illegal_actions"] = sum(self._illegal.values())
        return team

    def _padded_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        shape = (self.team_spec.n_agents, self.team_spec.obs_dim)
        low, high = np.zeros(shape, self.team_spec.obs_dtype), np.zeros(shape, self.team_spec.obs_dtype)
        for index, reader in enumerate(self._readers.values()):
            # zero belongs to every row: it is what an absent agent observes
            low[index, : reader.width] = np.minimum(reader.low, 0)
            high[index, : reader.width] = np.maximum(reader.high, 0)
        return low, high
