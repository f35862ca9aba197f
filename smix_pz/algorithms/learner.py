"""What every learner shares: stacked parameters, target copies, optimizer, and the update in one screen."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from smix_pz.algorithms.agents import Agent, Unrolled, node_inputs
from smix_pz.algorithms.exploration import Exploration
from smix_pz.algorithms.histories import HistoryTree, build_tree, build_trees, rows
from smix_pz.algorithms.networks import Parameter, ParameterStack
from smix_pz.algorithms.optimizers import make_optimizer
from smix_pz.algorithms.returns import ReturnEstimator
from smix_pz.algorithms.threads import share, threads, whole_tasks
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch, history_keys

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

JOINT_ACTION_LIMIT = 100_000

# Memories (episodes x times x agents x hidden) of the runs that are computed together: 4 MiB.
_PART_NUMBERS = 1 << 20

# Below this, sharing one batch among threads costs more than it saves.
_SPLIT_NUMBERS = 1 << 17


class Learner(ABC):
    """Trains R runs at once. ``update(batch)`` returns metrics and does nothing else: it neither logs nor evaluates.

    Attributes:
        agent: description of the agent network.
        stack: online and target parameters of all runs.
        n_updates: gradient updates so far (the same for every run of a stack), those of ``update_policy`` left out.
        learned_by_update: what the names of the parameters begin with that ``update`` trains; "" is all.
    """

    learned_by_update = ""

    def __init__(
        self,
        agent: Agent,
        state_dim: int,
        returns: ReturnEstimator,
        hyper: Hyperparameters,
        rngs: Sequence[np.random.Generator],
        device: torch.device,
    ) -> None:
        self.agent, self.state_dim, self.returns, self.hyper, self.device = agent, state_dim, returns, hyper, device
        self.stack = ParameterStack.draw({**agent.parameters(), **self.extra_parameters()}, rngs, device)
        self.optimizer = make_optimizer(self.stack, hyper)
        self.n_updates = 0
        self.episodes_at_sync = 0
        self._cut: tuple[tuple[Any, ...], list[tuple[slice, Self]]] | None = None  # see _parts
        self._pieces: tuple[tuple[Any, ...], list[Learner]] | None = None  # see _split_step

    @abstractmethod
    def extra_parameters(self) -> dict[str, Parameter]:
        """Parameters besides the agents': the mixer's, the joint networks'."""

    @abstractmethod
    def losses(self, batch: EpisodeBatch, tree: HistoryTree) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each run [R], with its graph, and metrics [R]."""

    @abstractmethod
    def taken_values(self, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """Q_tot of the actions in the batch: [R, B, T+1, X], X = 1 or, without a mixer, N."""

    @property
    def n_runs(self) -> int:
        """R, the runs in this stack."""
        return self.stack.online.shape[0]

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One gradient update of every run. Returns metrics, each [R]."""
        return self.update_many(batch.map(lambda field: field[None]))

    @property
    def exploration(self) -> Exploration:
        """How the agents behave while they are trained: epsilon-greedy, unless a learner says otherwise."""
        c = self.hyper
        return Exploration("epsilon-greedy", c.epsilon_start, c.epsilon_finish, c.epsilon_steps)

    def update_policy(self, group: EpisodeBatch, epsilon: Tensor) -> dict[str, Tensor]:
        """Learn from the newest group of episodes what only they can teach; here nothing.

        Args:
            group: [R, K, ...], played with the parameters as they were before this group's updates of values.
            epsilon: [R], the exploration that it was played with.

        Returns:
            Metrics, each [R].
        """
        return {}

    def update_many(self, batches: EpisodeBatch) -> dict[str, Tensor]:
        """One update after the other from several batches (fields [U, R, B, ...]). Returns the last one's metrics."""
        actions = batches.actions[0]
        if self.n_runs < threads() and self._can_split and self._numbers(actions) >= _SPLIT_NUMBERS:
            with whole_tasks():
                for index in range(len(batches.history)):
                    metrics = self._split_step(batches.batch(index), min(threads(), actions.shape[1]))
            self.n_updates += len(batches.history)
            return metrics
        parts = self._parts(actions)
        found = share(partial(part._steps, batches, at) for at, part in parts)
        self.n_updates += len(batches.history)
        return {name: torch.cat([metrics[name] for metrics in found]) for name in found[0]}

    def _steps(self, batches: EpisodeBatch, at: slice) -> dict[str, Tensor]:
        batches = batches.map(lambda field: field[:, at])
        # 1. Find what has to be evaluated: distinct histories, nothing behind an end.
        for index, tree in enumerate(build_trees(batches)):
            metrics = self._step(batches.batch(index), tree)
        return metrics

    def _step(self, batch: EpisodeBatch, tree: HistoryTree) -> dict[str, Tensor]:
        # 2. The loss of each run. Runs share no parameter, so the sum's gradient is each run's own.
        loss, metrics = self.losses(batch, tree)
        # 3. Clip and step, each run by its own norm and statistics.
        grad_norm = self._descend(loss, self.learned_by_update)
        return {"loss": loss.detach(), "grad_norm": grad_norm, **metrics}

    def _parts(self, actions: Tensor) -> list[tuple[slice, Self]]:
        """This learner for some runs at a time, sharing parameters and statistics with it; actions [R, B, T+1, N].

        Runs share nothing, so that on a CPU as many are computed together as its caches hold, and threads take
        different ones. A stack of small batches stays whole: there, starting operations is what takes time.
        """
        n_runs, numbers = len(actions), self._numbers(actions)
        if self.device.type != "cpu" or numbers <= _PART_NUMBERS:
            return [(slice(None), self)]
        size = min(max(1, _PART_NUMBERS * n_runs // numbers), -(-n_runs // threads()))
        made_from = self.stack, self.optimizer, size
        if self._cut is None or self._cut[0] != made_from:
            found = []
            for start in range(0, n_runs, size):
                at, part = slice(start, start + size), copy.copy(self)
                part.stack, part.optimizer = self.stack.part(at), self.optimizer.part(at)
                found.append((at, part))
            self._cut = made_from, found
        return self._cut[1]

    def _numbers(self, actions: Tensor) -> int:
        return actions.numel() * self.agent.hidden_dim

    @property
    def _can_split(self) -> bool:
        """Whether an update is one gradient step on a mean over filled steps: pieces of a batch add up to it."""
        return self.device.type == "cpu"

    def _split_step(self, batch: EpisodeBatch, n_pieces: int) -> dict[str, Tensor]:
        """One update, in which threads take different episodes; for fewer runs than threads."""
        spans = list(pairwise(batch.history.shape[1] * k // n_pieces for k in range(n_pieces + 1)))
        filled = batch.filled.sum((2, 3)).to(self.stack.online.dtype)  # [R, B]
        weights = [filled[:, a:b].sum(1) / filled.sum(1) for a, b in spans]
        if not all((weight > 0).all() for weight in weights):  # a piece whose episodes all broke down has no mean
            return self._steps(batch.map(lambda field: field[None]), slice(None))
        if self._pieces is None or self._pieces[0] != (self.stack, n_pieces):
            made: list[Learner] = [copy.copy(self) for _ in range(n_pieces)]
            for piece in made:
                piece.stack = self.stack.part(slice(None), own_grad=True)
            self._pieces = (self.stack, n_pieces), made
        pieces, prefix = self._pieces[1], self.learned_by_update

        def differentiate(piece: Learner, span: tuple[int, int], weight: Tensor) -> dict[str, Tensor]:
            part = batch.map(lambda field: field[:, slice(*span)])
            loss, metrics = piece.losses(part, build_tree(part))
            piece.stack.differentiate((loss * weight).sum(), prefix)
            return {name: value * weight for name, value in {"loss": loss.detach(), **metrics}.items()}

        each = zip(pieces, spans, weights, strict=True)
        found = share(partial(differentiate, *arguments) for arguments in each)
        columns = self.stack.columns(prefix)
        torch.sum(torch.stack([p.stack.grad[:, columns] for p in pieces]), 0, out=self.stack.grad[:, columns])
        total = {name: torch.stack([metrics[name] for metrics in found]).sum(0) for name in found[0]}
        return {**total, "grad_norm": self.optimizer.step(self.stack, prefix)}

    def _descend(self, loss: Tensor, prefix: str, idle: Tensor | None = None) -> Tensor:
        """One step of every run's parameters of these names down its loss [R]; returns the gradient norms [R].

        idle: bool [R], runs that take no step.
        """
        self.stack.differentiate(loss.sum(), prefix)
        return self.optimizer.step(self.stack, prefix, idle)

    def sync_target(self, episodes: int) -> bool:
        """Copy the online to the target network if it is time, given the episodes trained on so far."""
        due = episodes - self.episodes_at_sync >= self.hyper.target_update_episodes
        if due:
            self.stack.sync_target()
            self.episodes_at_sync = episodes
        return due

    def select(self, keep: Tensor) -> None:
        """Go on with the chosen runs only (index [R'])."""
        self.stack = self.stack.select(keep)
        self.optimizer.select(keep)

    def joint_values(self, obs: Tensor, state: Tensor, avail_actions: Tensor) -> Tensor:
        """Q_tot of every joint action at the start of an episode: [R, A, ..., A, X].

        obs [N, O], state [S], avail_actions [N, A] of one first observation.

        Raises:
            ValueError: more than 100,000 joint actions.
        """
        n_agents, n_actions = avail_actions.shape
        if n_actions**n_agents > JOINT_ACTION_LIMIT:
            raise ValueError(
                f"{n_agents} agents with {n_actions} actions have {n_actions**n_agents} joint actions; "
                f"this table is made for at most {JOINT_ACTION_LIMIT}"
            )
        joint = torch.tensor(list(itertools.product(range(n_actions), repeat=n_agents)), device=self.device)
        shape = (self.n_runs, len(joint), 2)
        batch = EpisodeBatch(
            obs=obs.expand(*shape, *obs.shape).contiguous(),
            state=state.expand(*shape, *state.shape).contiguous(),
            avail_actions=avail_actions.expand(*shape, *avail_actions.shape).contiguous(),
            actions=joint[None, :, None].expand(*shape, n_agents).contiguous(),
            behaviour=torch.ones(*shape, n_agents, device=self.device),
            rewards=torch.zeros(*shape[:2], 1, 1, device=self.device),
            terminated=torch.ones(*shape[:2], 1, 1, dtype=torch.bool, device=self.device),
            filled=torch.ones(*shape[:2], 1, 1, dtype=torch.bool, device=self.device),
            history=torch.zeros(shape, dtype=torch.int64, device=self.device),
        )
        keys = history_keys(batch.obs, batch.state, batch.avail_actions, batch.actions)
        batch.history.copy_(keys)
        with torch.no_grad():
            values = self.taken_values(batch, build_tree(batch))[:, :, 0]
        return values.unflatten(1, (n_actions,) * n_agents)

    # Helpers for subclasses -------------------------------------------------------------------------------------

    def unroll(self, batch: EpisodeBatch, tree: HistoryTree) -> Unrolled:
        """Agents' values and hidden states at the tree's nodes, online and target."""
        obs, last_actions = node_inputs(batch.obs, batch.actions, tree.nodes)
        return self.agent.unroll(self.stack.params, self.stack.target_params, obs, last_actions, tree)


def masked_mean(values: Tensor, filled: Tensor) -> Tensor:
    """Mean over the filled times: values [R, B, T, X], filled [R, B, T, 1] -> [R]. Other entries may be NaN."""
    kept = torch.where(filled, values, values.new_zeros(()))
    return kept.sum((1, 2, 3)) / (filled.sum((1, 2, 3)) * values.shape[-1])


def pick(agent_qs: Tensor, actions: Tensor) -> Tensor:
    """Values of the given actions: agent_qs [..., N, A], actions [..., N] -> [..., N]."""
    return agent_qs.gather(-1, actions.long()[..., None]).squeeze(-1)


def greedy_actions(agent_qs: Tensor, avail_actions: Tensor) -> Tensor:
    """Best legal action of each agent: agent_qs, avail_actions [..., N, A] -> [..., N]."""
    return agent_qs.masked_fill(~avail_actions, -torch.inf).argmax(-1)


def at_times(values: Tensor, index: Tensor) -> Tensor:
    """From tree entries to the batch: values [R, L, X], index [R, B, T+1] -> [R, B, T+1, X]."""
    return rows(values, index.flatten(1)).unflatten(1, index.shape[1:])


def at_entries(field: Tensor, first: Tensor) -> Tensor:
    """From the batch to tree entries: field [R, B, T+1, ...], first [R, L] -> [R, L, ...]."""
    return rows(field.flatten(1, 2), first)
