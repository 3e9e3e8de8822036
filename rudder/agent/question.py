"""Questions: the two decisions that an agent can be asked for (``--steer``), as data.

    rows    replace or keep: the policy of the paper, whose buffer has a fixed size
    size    grow, keep or shrink: ``lookahead``, whose rows choose themselves

The metrics, the history, the grammar's form and the judging are the same for both.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rudder.agent.context import History
from rudder.agent.metrics import Metrics
from rudder.agent.prompt import FORM, SIZE_SYSTEM, SYSTEM, THINK_FIRST
from rudder.agent.state import size_section, state_section
from rudder.observations import Action


@dataclass(frozen=True, kw_only=True)
class Question:
    """actions: to choose from; their words begin with different letters.   system: the task and
    the meaning of each metric.   section: writes the part of a prompt that changes."""

    actions: tuple[Action, ...]
    system: str
    section: Callable[[Metrics, History], str]

    def system_text(self, reasoning: bool) -> str:
        """The task, the meaning of each metric, and the form of an answer."""
        words = " or ".join(f'"{action.word}"' for action in self.actions)
        return self.system + FORM.replace("WORDS", words) + (THINK_FIRST if reasoning else "")


QUESTIONS = {
    "rows": Question(actions=(Action.REPLACE, Action.KEEP), system=SYSTEM, section=state_section),
    "size": Question(
        actions=(Action.GROW, Action.KEEP, Action.SHRINK),
        system=SIZE_SYSTEM,
        section=size_section,
    ),
}
