"""Planner: what one rank's buffer does for each minibatch, by ids alone; no row moves here.

    start()            (slots, ids) to fill the buffer with
    foresee(ids)       for each minibatch, as far ahead as ``window``
    plan(ids, ..)      look up -> the policy observes -> a decision, if one is ready -> a proposal
                       -> the index changes -> the decider is shown what happened

Rows follow their plans in order: whoever moves them may have several plans under way. Training and
replay run this very class, so that a replay counts what the run counted.

C capacity, R remote rows of a minibatch, k rows to swap in.
"""

import copy
from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rudder.buffer.index import Buffer, Found, Ids, Resize
from rudder.observations import Action, Facts, Snapshot
from rudder.policies.base import Policy, Proposal
from rudder.row_counts import RowCounts

# A decision taken after minibatch t shows at t + 2 (see Snapshot): so far we look at least.
_LOOK = 2
# Growing and shrinking change the capacity by this factor.
_SIZE_STEP = 1.5


class Decisions(Protocol):
    """Where decisions come from: see ``deciders.worker``."""

    @property
    def looks_ahead(self) -> bool:
        """Whether snapshots should tell of minibatch + 2, which costs a look-up."""
        ...

    def take(self, minibatch: int) -> Action:
        """What to do now, at this minibatch; to keep where no decision is ready."""
        ...

    def post(self, snapshot: Snapshot) -> None:
        """A minibatch was planned."""
        ...


class Conditions(Protocol):
    """What a run meets: measured, or stated by ``replay.link``."""

    def limit(self, minibatch: int) -> int:
        """Rows that the buffer may have at this minibatch."""
        ...

    def times_ms(self, counts: RowCounts, minibatch: int) -> tuple[float, float]:
        """(fetching, computing) of a minibatch that moved so many rows."""
        ...


class Plan(NamedTuple):
    """What to do for one minibatch: serve what was found, fetch what was not, then swap.

    replace: what the decider said.   counts: of this minibatch.   snapshot: what deciders see.
    resize: what the buffer's rows do before all that, where its capacity has changed.
    """

    found: Found
    swap: Proposal
    replace: bool
    counts: RowCounts
    snapshot: Snapshot
    resize: Resize | None = None


class Planner:
    """Buffer index, policy and decisions of one rank.

    decisions: where they come from; without any, nothing is ever asked to be replaced.
    """

    def __init__(self, policy: Policy, facts: Facts, decisions: Decisions | None = None) -> None:
        self.policy, self.facts, self.decisions = policy, facts, decisions
        self.counts = RowCounts()
        self.window = max(policy.window, _LOOK)
        self._upcoming: deque[Ids] = deque()
        self._next_capacity: int | None = None
        self._wanted = policy.capacity
        self.conditions: Conditions | None = None

    @property
    def buffer(self) -> Buffer:
        """The policy's."""
        return self.policy.buffer

    @property
    def num_foreseen(self) -> int:
        """Minibatches that were foreseen and not planned yet."""
        return len(self._upcoming)

    def start(self) -> tuple[Ids, Ids]:
        """(slots, ids) of the rows to begin with; the caller moves them there."""
        ids = self.policy.start()
        slots = np.arange(len(ids))
        self.buffer.fill(slots, ids)
        self.counts.replacements += len(ids)
        return slots, ids

    def foresee(self, ids: Ids) -> None:
        """The next minibatch that was sampled needs these distinct remote ids."""
        self._upcoming.append(ids)
        self.policy.foresee(ids)

    def resize(self, capacity: int) -> None:
        """The buffer has this capacity from the next minibatch on that is planned."""
        self._next_capacity = capacity

    def _follow(self, action: Action, minibatch: int) -> None:
        """Change the buffer's size as a decision says; the limit holds whatever it says."""
        size = self.buffer.capacity
        if action == Action.GROW:
            self._wanted = max(round(size * _SIZE_STEP), size + 1)
        elif action == Action.SHRINK:
            self._wanted = round(size / _SIZE_STEP)
        if self.conditions is not None:
            self.resize(min(self._wanted, self.conditions.limit(minibatch)))

    def _resized(self) -> Resize | None:
        capacity, self._next_capacity = self._next_capacity, None
        if capacity is None or capacity == self.buffer.capacity:
            return None
        return self.policy.resize(capacity)

    def plan(self, ids: Ids, epoch: int, step: int) -> Plan:
        """Plan the next minibatch, of these distinct remote ids."""
        minibatch = epoch * self.facts.minibatches_per_epoch + step
        action = Action.KEEP if self.decisions is None else self.decisions.take(minibatch)
        self._follow(action, minibatch)
        resize = self._resized()
        if self._upcoming:
            self._upcoming.popleft()
        found = self.buffer.look_up(ids)
        self.policy.observe(ids, found)
        replace = action == Action.REPLACE
        swap = self.policy.propose(replace)
        if len(swap.ids):
            self.buffer.assign(swap.slots, swap.ids, swap.tallies)
        counts = RowCounts(
            remote=len(ids),
            hits=found.hits,
            misses=len(ids) - found.hits,
            replacements=swap.num_extra,
            replaced=len(swap.ids),
            halo_remote=found.in_halo,
            halo_hits=found.halo_hits,
        )
        self.counts += counts
        snapshot = self._snapshot(minibatch, epoch, step, counts)
        if self.decisions is not None:
            self.decisions.post(snapshot)
        return Plan(found, swap, replace, counts, snapshot, resize)

    def _snapshot(self, minibatch: int, epoch: int, step: int, counts: RowCounts) -> Snapshot:
        looks = self.decisions is not None and self.decisions.looks_ahead
        known = looks and len(self._upcoming) >= _LOOK
        ahead = self._upcoming[_LOOK - 1] if known else None
        fetch_ms, compute_ms, limit = -1.0, -1.0, -1
        if self.conditions is not None:
            fetch_ms, compute_ms = self.conditions.times_ms(counts, minibatch)
            limit = self.conditions.limit(minibatch)
        return Snapshot(
            minibatch=minibatch,
            epoch=epoch,
            step=step,
            remote=counts.remote,
            hits=counts.hits,
            halo_remote=counts.halo_remote,
            halo_hits=counts.halo_hits,
            replaced=counts.replaced,
            replacement_rows=counts.replacements,
            stale=self.policy.stale,
            candidates=self.policy.candidates,
            proven=self.policy.proven,
            filled=self.buffer.filled,
            capacity=self.buffer.capacity,
            num_minibatches=self.facts.num_minibatches,
            ahead_remote=-1 if ahead is None else len(ahead),
            ahead_hits=-1 if ahead is None else self.buffer.count_hits(ahead),
            fetch_ms=fetch_ms,
            compute_ms=compute_ms,
            limit=limit,
        )

    def fork(self, decisions: Decisions | None) -> "Planner":
        """A copy that goes its own way, decided by others: what would happen if ..."""
        twin = copy.copy(self)
        twin.policy = copy.deepcopy(self.policy)
        twin.counts, twin._upcoming = copy.copy(self.counts), deque(self._upcoming)
        twin.decisions = decisions
        return twin

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps: the buffer's index and the policy's arrays, no rows."""
        policy = {f"policy.{name}": array for name, array in self.policy.state().items()}
        return {**self.buffer.state(), **policy}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> tuple[Ids, Ids]:
        """Go on from ``state_dict()``. Returns (slots, ids) of rows that must be moved again.

        Where the buffer had another capacity then, it has that now.
        """
        if len(state["ids"]) != self.buffer.capacity:
            self.policy.resize(len(state["ids"]))
        slots, ids = self.buffer.load(state)
        self.policy.load(
            {
                name.removeprefix("policy."): array
                for name, array in state.items()
                if name.startswith("policy.")
            }
        )
        self.counts.replacements += len(ids)
        return slots, ids
