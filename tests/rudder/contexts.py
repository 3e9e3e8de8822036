"""Contexts at random: what a decider may be shown, whether or not a buffer could come to it."""

import random

from rudder.observations import Action, Context, Decision, Facts, Outcome, Snapshot, Trend

FACTS = Facts(
    num_nodes=100_000,
    num_edges=2_000_000,
    part_nodes=25_000,
    part_edges=500_000,
    num_parts=4,
    halo_rows=40_000,
    capacity=10_000,
    row_bytes=400,
    batch_size=2000,
    num_minibatches=200,
    minibatches_per_epoch=20,
)


def snapshot(minibatch: int, hits: int = 50, **changes: int) -> Snapshot:
    """A minibatch of 100 remote rows, with other figures where they matter."""
    figures = {
        "remote": 100,
        "halo_remote": 80,
        "halo_hits": min(hits, 80),
        "stale": 10,
        "candidates": 10,
        "filled": 20,
        "capacity": 30,
        "num_minibatches": 1000,
    }
    return Snapshot(minibatch=minibatch, hits=hits, **(figures | changes))


def random_snapshot(minibatch: int, draw: random.Random) -> Snapshot:
    remote = draw.randint(0, 6000)
    hits = draw.randint(0, remote)
    halo_remote = draw.randint(0, remote)
    return Snapshot(
        minibatch=minibatch,
        remote=remote,
        hits=hits,
        halo_remote=halo_remote,
        halo_hits=draw.randint(0, min(hits, halo_remote)),
        replaced=draw.choice([0, 0, draw.randint(0, 500)]),
        replacement_rows=draw.randint(0, 400),
        stale=draw.randint(0, 10_000),
        candidates=draw.randint(0, 30_000),
        filled=draw.randint(0, 10_000),
        capacity=10_000,
        num_minibatches=200,
        ahead_remote=draw.choice([-1, 6000]),
        ahead_hits=draw.randint(0, 6000),
    )


def random_outcome(minibatch: int, draw: random.Random) -> Outcome:
    return Outcome(
        decision=Decision(
            action=Action(draw.random() < 0.5),
            minibatch=minibatch,
            expect_hits=draw.choice([None, *Trend]),
        ),
        before=random_snapshot(minibatch, draw),
        applied=minibatch + 1,
        after=random_snapshot(minibatch + 2, draw),
    )


def random_context(seed: int) -> Context:
    draw = random.Random(seed)
    now = draw.randint(0, 199)
    recent = [random_snapshot(t, draw) for t in range(max(0, now - 15), now + 1)]
    outcomes = [random_outcome(t, draw) for t in range(max(0, now - 32), now - 2)]
    return Context(recent=recent, outcomes=outcomes[: draw.randint(0, 32)])
