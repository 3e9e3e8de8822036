"""What an agent reads: metrics, history, their words, and how history gives way to a budget."""

import re
from dataclasses import replace

import pytest

from rudder.agent.metrics import HISTORY, collect
from rudder.agent.prompt import QUESTIONS, Question, facts_text
from rudder.agent.state import STATE_MARK, amount, level, motion, state_section
from rudder.observations import Action, Context, Decision, Outcome, Snapshot, Trend
from tests.rudder import contexts
from tests.rudder.contexts import FACTS, random_context


def snapshot(minibatch: int, hits: int = 50, replaced: int = 0, ahead: int = -1) -> Snapshot:
    known = {"ahead_remote": 100, "ahead_hits": ahead} if ahead >= 0 else {}
    return contexts.snapshot(
        *(minibatch, hits),
        halo_hits=20,
        replaced=replaced,
        replacement_rows=5,
        stale=30,
        candidates=600,
        proven=12,
        filled=200,
        capacity=200,
        num_minibatches=50,
        **known,
    )


def outcome(minibatch: int, *, replace: bool, after: int) -> Outcome:
    return Outcome(
        decision=Decision(action=Action(replace), minibatch=minibatch, expect_hits=Trend.INCREASE),
        before=snapshot(minibatch),
        applied=minibatch + 1,
        after=snapshot(minibatch + 2, hits=after),
    )


RECENT = [snapshot(t, hits) for t, hits in enumerate([60, 60, 60, 60])]
CONTEXT = Context(
    recent=[*RECENT[:-1], snapshot(3, 60, replaced=20), snapshot(4, 57, ahead=62)],
    outcomes=[outcome(0, replace=True, after=70), outcome(1, replace=False, after=50)],
)


def test_metrics() -> None:
    m = collect(CONTEXT)
    assert (m.now.hits_pct, m.hits_change, m.jitter) == (57.0, -3.0, 0.75)
    assert (m.ahead_change, m.now.halo_hits_pct) == (5.0, 25.0)
    assert m.moved_pct == 48.0
    assert m.moved_change == pytest.approx(100 * 3 / 45)
    assert (m.stale_pct, m.candidates_pct, m.filled_pct) == (15.0, 300.0, 100.0)
    assert (m.swap_pct, m.reach_pct, m.replaced_pct) == (30.0, 200.0, 0.0)
    assert m.proven_pct == 40.0
    assert (m.since, m.spent_pct) == (1, 5.0)


def test_metrics_of_a_first_minibatch_without_remote_rows() -> None:
    nothing = Snapshot(minibatch=0, capacity=0, num_minibatches=1)
    m = collect(Context(recent=[nothing]))
    assert (m.now.hits_pct, m.hits_change, m.reach_pct, m.since) == (100.0, 0.0, 0.0, None)
    assert "since never" in state_section(m)


def test_state_section() -> None:
    assert state_section(collect(CONTEXT)) == (
        "### state\n"
        "past\n"
        "3 ago replace hit +20 (soaring) moved -36 (plunging) hoped increase met\n"
        "2 ago keep hit +0 (steady) moved +0 (steady) hoped increase missed\n"
        "mean of 1 replace hit +20 (soaring) moved -36 (plunging)\n"
        "mean of 1 keep hit +0 (steady) moved +0 (steady)\n"
        "now\n"
        "done 5 (some) left 45 (many) since 1 (one) spent 5 (low)\n"
        "reach 200 (over) filled 100 (full) replaced 0 (none)\n"
        "stale 15 (some) candidates 300 (over) swap 30 (half) proven 40 (half)\n"
        "moved 48 rows 48 (half, soaring) halo 25 (some)\n"
        "hit 57 (half, falling) jitter 1 (low) next2 62 (+5 rising)"
    )


def test_words() -> None:
    assert [level(v) for v in (0, 0.4, 5, 10, 59, 60, 90, 400)] == (
        ["none", "none", "low", "some", "half", "high", "full", "over"]
    )
    assert [amount(n) for n in (0, 1, 2, 4, 5, 16, 17)] == (
        ["none", "one", "few", "few", "some", "some", "many"]
    )
    assert [motion(c) for c in (-6, -5, -1, 0.9, 1.1, 5, 5.1)] == (
        ["plunging", "falling", "steady", "steady", "rising", "rising", "soaring"]
    )


def test_state_is_short_and_of_few_words() -> None:
    words: set[str] = set()
    for seed in range(300):
        context = random_context(seed)
        text = state_section(collect(context))
        pieces = re.findall(r" ?[a-z]+|\d| ?[^\sa-z\d]+|\n", text)
        assert len(pieces) <= 350
        assert text.startswith(STATE_MARK)
        assert "+-" not in text
        assert "-0 " not in text
        words |= {piece.strip() for piece in pieces}
    assert len(words) < 100


def test_the_latest_decisions_are_told_and_all_count() -> None:
    outcomes = [outcome(t, replace=False, after=50) for t in range(30)]
    metrics = collect(Context(recent=[snapshot(40)], outcomes=outcomes))
    assert [past.applied for past in metrics.past] == [*range(31 - HISTORY, 31)]
    assert "15 ago keep hit +0 (steady)" in state_section(metrics)
    assert metrics.effects[Action.KEEP].count == 30


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_prompt_explains_every_word_of_the_state(question: Question) -> None:
    timed = replace(CONTEXT.latest, fetch_ms=30.0, compute_ms=20.0, limit=400)
    section = question.section(collect(Context(recent=[timed], outcomes=CONTEXT.outcomes)))
    names = re.findall(r"(\w+) [+-]?\d+ (?:rows \d+ )?\(", section)
    assert len(names) > 5
    text = question.system_text(False)
    for name in set(names) - {"of"}:
        assert re.search(rf"\b{name}\b", text), name
    assert all(f'"{action.word}"' in text for action in question.actions)
    assert "40000 remote neighbours" in facts_text(FACTS)
