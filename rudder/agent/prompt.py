"""The prompt: what never changes first, so that its evaluation is reused, then the state.

    rows    replace or keep: the policy of the paper, whose buffer has a fixed size
    size    grow, keep or shrink: ``lookahead``, whose rows choose themselves

These are the two questions that an agent can be asked (``--steer``). The metrics, the grammar's
form and the judging are the same for both.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rudder.agent.metrics import Metrics
from rudder.agent.state import size_section, state_section
from rudder.observations import Action, Facts

_TRAINER = """\
 the prefetch buffer of one trainer in distributed GNN training. Each minibatch samples nodes; \
features of nodes that other machines own (remote rows) cross the network unless the buffer holds \
them. """
_READING = """\
Each number is followed by a word for its size, and where it changes by a word for its direction \
(plunging, falling, steady, rising, soaring; steady is within 1 point or 1%).
past: recent decisions: minibatches ago, what was decided, how hit (points) and moved (percent) \
changed by the first minibatch after it, what was hoped for hit, and whether that was met or \
missed; then means over what is remembered.
done, left: minibatches so far, and still to come."""
_ROWS = f"""\
You steer{_TRAINER}Replacing swaps stale rows of the buffer for candidates that were often missed. \
It moves rows on purpose now and pays if it saves more rows later. Decide whether to replace at \
the next minibatch, so that as few rows as possible are moved over the rest of the run.

{_READING} since: minibatches since rows were last replaced. \
spent: rows that recent replacements moved on purpose, in percent of the remote rows of their \
minibatches.
reach: buffer capacity in percent of the remote rows of a minibatch; hit cannot be higher.
filled, stale, candidates, replaced: rows in use, rows to give up (unused ones among them), rows \
to take in, rows just swapped in, each in percent of the capacity.
swap: rows that replacing would swap, in percent of the remote rows of a minibatch. proven: of the \
rows it would bring in, in percent, those that were missed more than once.
moved: rows that crossed the network for this minibatch, and that in percent of its remote rows.
halo: hit among direct neighbours of our part. jitter: how much hit varies between minibatches.
hit: remote rows found in the buffer, in percent of those needed (%-Hits).
next2: hit that the minibatch after next will have if nothing is replaced, and its change from now.

Advice: rows that enter stay for long, so keep an empty buffer empty for some minibatches until \
most candidates are proven: the longer, the smaller reach is. Then replace while the buffer fills, \
or when hit is low or falling and there are many stale rows and candidates. Keep when past \
replacements did not raise hit, and near the end: a replacement needs minibatches left to pay.
"""
_SIZE = f"""\
You set the size of{_TRAINER}The buffer keeps the rows that the next minibatches need; a larger \
one moves fewer rows and takes memory that other jobs on the machine could use. Fetching overlaps \
with computing: only where fetching takes longer does training wait. Decide whether to grow, keep \
or shrink the buffer, by half at a time, so that it is as small as it can be without training \
waiting.

{_READING}
size: rows that the buffer may have, in percent of its limit. filled: of them, those in use. \
reach: buffer capacity in percent of the remote rows of a minibatch; hit cannot be higher.
fetch: time of fetching in percent of that of computing: over 100, training waits.
moved: rows that crossed the network for this minibatch, and that in percent of its remote rows.
hit: remote rows found in the buffer, in percent of those needed (%-Hits). jitter: how much it \
varies between minibatches. next2: hit that the minibatch after next will have in this buffer as \
it stands, and its change from now.

Advice: grow where fetch is over 100 and size is below 100. Shrink where fetch is below 65. Keep \
in between, and for some minibatches after a change, until it shows.
"""
_FORM = """
Answer with one line of JSON and nothing else:
{"decision":WORDS,"hits":D,"moved":D,"reason":"a few words"}
where D is your expectation, "increase", "decrease" or "stagnant": hits for hit, and moved for the \
rows moved, at the first minibatch after your decision is carried out, compared with now.
"""
_THINK_FIRST = """
First think step by step, in at most 100 words. Then give the answer.
"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """actions: to choose from; their words begin with different letters.   system: the task and
    the meaning of each metric.   section: writes the part of a prompt that changes."""

    actions: tuple[Action, ...]
    system: str
    section: Callable[[Metrics], str]

    def system_text(self, reasoning: bool) -> str:
        """The task, the meaning of each metric, and the form of an answer."""
        words = " or ".join(f'"{action.word}"' for action in self.actions)
        return self.system + _FORM.replace("WORDS", words) + (_THINK_FIRST if reasoning else "")


QUESTIONS = {
    "rows": Question(actions=(Action.REPLACE, Action.KEEP), system=_ROWS, section=state_section),
    "size": Question(
        actions=(Action.GROW, Action.KEEP, Action.SHRINK), system=_SIZE, section=size_section
    ),
}


def facts_text(facts: Facts) -> str:
    """The graph and the training: what the agent is told once."""
    share = 100.0 * facts.capacity / facts.halo_rows if facts.halo_rows else 0.0
    return (
        "### graph and training\n"
        f"graph: {facts.num_nodes} nodes, {facts.num_edges} edges, {facts.num_parts} parts\n"
        f"our part: {facts.part_nodes} nodes, {facts.part_edges} edges, "
        f"{facts.halo_rows} remote neighbours (halo)\n"
        f"buffer: {facts.capacity} rows of {facts.row_bytes} bytes, {share:.0f}% of the halo\n"
        f"training: {facts.batch_size} seeds a minibatch, {facts.minibatches_per_epoch} "
        f"minibatches an epoch, {facts.num_minibatches} in all\n\n"
    )
