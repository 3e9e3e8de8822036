"""Head: the last layer of a classifier, refitted on what a run itself has shown.

The paper (section 4.4) fine-tunes a classifier's decision head online, all else frozen, on labels
from before and after each decision. N outcomes, H inputs of the head.
"""

from collections.abc import Sequence

import numpy as np

from rudder.deciders.predictors import Floats
from rudder.observations import Outcome

# Pull back to the head as it was fitted, as so many outcomes would: few outcomes change little.
_PULL = 4.0
_STEPS = 50


def was_replacing_right(outcome: Outcome) -> bool:
    """The paper's label: the gain of %-Hits (points) outweighs that of communication (percent).

    It is stated of replacements. Keeping is judged by its mirror image: replacing would have been
    right where communication grew by more than %-Hits did. Other causes count in as well, which is
    why ``rudder.fit`` labels by counterfactual replays unless it is told otherwise.
    """
    gain, cost = outcome.hits_change, outcome.moved_change
    return gain > cost if outcome.decision.replace else cost > gain


def refit(
    weight: Floats, bias: Floats, features: Sequence[Floats], right: Sequence[bool]
) -> tuple[Floats, Floats]:
    """A head for these outcomes, near the given one: logistic regression from there.

    weight: float64 [H, 1], bias: float64 [1], of the head as fitted; features: [N][H] read by it;
    right: [N], whether replacing was right. The same arguments give the same head.
    """
    ones = np.ones((len(features), 1))
    inputs = np.hstack([np.stack(features), ones])
    fitted = np.append(weight[:, 0], bias)
    # The logistic loss lies below this constant curvature (Boehning and Lindsay, 1988), so that
    # no step overshoots.
    curvature = 0.25 * inputs.T @ inputs + _PULL * np.eye(len(fitted))
    step = np.linalg.inv(curvature)
    labels = np.array(right, float)
    head = fitted.copy()
    for _ in range(_STEPS):
        share = 0.5 * (1.0 + np.tanh(0.5 * (inputs @ head)))
        head -= step @ (inputs.T @ (share - labels) + _PULL * (head - fitted))
    return head[:-1, None], head[-1:]
