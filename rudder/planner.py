"""Steering: one rank's buffer over the minibatches, without the rows themselves.

    start()            (slots, ids) to fill the buffer with
    foresee(ids)       for each minibatch, as far ahead as ``window``
    plan(ids, ..)      look up -> the policy observes -> a decision, if one is ready -> a proposal
    commit()           the rows have come: swap, and show the decider what happened

Training and replay run this very class, so that a replay counts what the run counted.

C capacity, R remote rows of a minibatch, k rows to swap in.
"""

import copy
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rudder.buffer.index import Buffer, Found, Ids
from rudder.observations import Facts, Snapshot
from rudder.policies.base import Policy, Proposal

# A decision taken after minibatch t shows at t + 2 (see Snapshot): so far we look at least.
_LOOK = 2


class Verdicts(Protocol):
    """Where decisions come from: ``deciding.Inline`` or ``worker.Worker``."""

    @property
    def looks_ahead(self) -> bool:
        """Whether snapshots should tell of minibatch + 2, which costs a look-up."""
        ...

    def take(self, minibatch: int) -> bool:
        """Whether to replace now, at this minibatch; False where no decision is ready."""
        ...

    def post(self, snapshot: Snapshot) -> None:
        """A minibatch was served."""
        ...


@dataclass(kw_only=True)
class Counters:
    """Rows of all minibatches so far, by what became of them.

    remote = hits + misses.   replacements: rows moved for the buffer alone, the start's among them.
    moved = misses + replacements.   replaced: rows swapped in, for free or not.
    """

    remote: int = 0
    hits: int = 0
    misses: int = 0
    replacements: int = 0
    replaced: int = 0
    halo_remote: int = 0
    halo_hits: int = 0

    @property
    def moved(self) -> int:
        return self.misses + self.replacements

    def hit_shares(self) -> dict[str, float | None]:
        """%-Hits over all minibatches: of all remote rows, and of those in the halo."""
        return {
            "hits_pct": 100.0 * self.hits / self.remote if self.remote else None,
            "halo_hits_pct": 100.0 * self.halo_hits / self.halo_remote
            if self.halo_remote
            else None,
        }

    def __iadd__(self, other: "Counters") -> "Counters":
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


class Plan(NamedTuple):
    """What to do for one minibatch: serve what was found, fetch what was not, then swap.

    replace: what the decider said.
    """

    minibatch: int
    epoch: int
    step: int
    num_remote: int
    found: Found
    swap: Proposal
    replace: bool

    @property
    def num_misses(self) -> int:
        return self.num_remote - self.found.hits


class Steering:
    """Buffer, policy and decisions of one rank.

    verdicts: where decisions come from; without any, nothing is ever asked to be replaced.
    """

    def __init__(self, policy: Policy, facts: Facts, verdicts: Verdicts | None = None) -> None:
        self.policy, self.facts, self.verdicts = policy, facts, verdicts
        self.counters = Counters()
        self.window = max(policy.window, _LOOK)
        self._upcoming: deque[Ids] = deque()
        self._plan: Plan | None = None

    def start(self) -> tuple[Ids, Ids]:
        """(slots, ids) of the rows to begin with; the caller moves them there."""
        ids = self.policy.start()
        slots = np.arange(len(ids))
        self.buffer.fill(slots, ids)
        self.counters.replacements += len(ids)
        return slots, ids

    def foresee(self, ids: Ids) -> None:
        """The next minibatch that was sampled needs these distinct remote ids."""
        self._upcoming.append(ids)
        self.policy.foresee(ids)

    @property
    def buffer(self) -> Buffer:
        """The policy's."""
        return self.policy.buffer

    @property
    def num_foreseen(self) -> int:
        """Minibatches that were foreseen and not planned yet."""
        return len(self._upcoming)

    def plan(self, ids: Ids, epoch: int, step: int) -> Plan:
        """Plan the next minibatch, of these distinct remote ids."""
        assert self._plan is None, "plan() follows commit()"
        if self._upcoming:
            self._upcoming.popleft()
        minibatch = epoch * self.facts.minibatches_per_epoch + step
        found = self.buffer.look_up(ids)
        self.policy.observe(ids, found)
        replace = self.verdicts is not None and self.verdicts.take(minibatch)
        swap = self.policy.propose(replace)
        self._plan = Plan(minibatch, epoch, step, len(ids), found, swap, replace)
        return self._plan

    def commit(self) -> Snapshot:
        """The planned swap was carried out. Returns what the minibatch showed."""
        plan, counters = self._plan, self.counters
        assert plan is not None, "commit() follows plan()"
        self._plan = None
        found, swap = plan.found, plan.swap
        if len(swap.ids):
            self.buffer.assign(swap.slots, swap.ids, swap.tallies)
        counters.remote += plan.num_remote
        counters.hits += found.hits
        counters.misses += plan.num_misses
        counters.replacements += swap.num_extra
        counters.replaced += len(swap.ids)
        counters.halo_remote += found.in_halo
        counters.halo_hits += found.halo_hits
        looks = self.verdicts is not None and self.verdicts.looks_ahead
        known = looks and len(self._upcoming) >= _LOOK
        ahead = self._upcoming[_LOOK - 1] if known else None
        snapshot = Snapshot(
            minibatch=plan.minibatch,
            epoch=plan.epoch,
            step=plan.step,
            remote=plan.num_remote,
            hits=found.hits,
            halo_remote=found.in_halo,
            halo_hits=found.halo_hits,
            replaced=len(swap.ids),
            replacement_rows=swap.num_extra,
            stale=self.policy.stale,
            candidates=self.policy.candidates,
            proven=self.policy.proven,
            filled=self.buffer.filled,
            capacity=self.buffer.capacity,
            num_minibatches=self.facts.num_minibatches,
            ahead_remote=-1 if ahead is None else len(ahead),
            ahead_hits=-1 if ahead is None else self.buffer.count_hits(ahead),
        )
        if self.verdicts is not None:
            self.verdicts.post(snapshot)
        return snapshot

    def fork(self, verdicts: Verdicts | None) -> "Steering":
        """A copy that goes its own way, decided by others: what would happen if ..."""
        twin = copy.copy(self)
        twin.policy = copy.deepcopy(self.policy)
        twin.counters, twin._upcoming = copy.copy(self.counters), deque(self._upcoming)
        twin.verdicts = verdicts
        return twin

    def state(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps: the buffer's book and the policy's arrays, no rows."""
        policy = {f"policy.{name}": array for name, array in self.policy.state().items()}
        return {**self.buffer.state(), **policy}

    def load(self, state: dict[str, NDArray[Any]]) -> tuple[Ids, Ids]:
        """Go on from ``state()``. Returns (slots, ids) of the rows that must be moved again."""
        slots, ids = self.buffer.load(state)
        self.policy.load(
            {
                name.removeprefix("policy."): array
                for name, array in state.items()
                if name.startswith("policy.")
            }
        )
        self.counters.replacements += len(ids)
        return slots, ids
