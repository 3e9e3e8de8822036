"""Classifiers: fitted off line by ``rudder.fit``, they decide within a fraction of a millisecond.

    DIR/meta.json                 version, names of the inputs, classes, settings and scores
        scale.npz                 mean and std of the inputs, float64 [F]
        KIND-TARGET.npz           lr, mlp, svm, rf: the arrays of ``predictors``
        KIND-TARGET.ubj, .zip     xgb: XGBoost's own format; tabnet: pytorch-tabnet's

KIND is the classifier; TARGET is whether to replace, or where %-Hits go if that is done or not.
N outcomes, F inputs, H inputs of the head.
"""

import json
import warnings
import zipfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np

from rudder.deciders.base import Act, Decider
from rudder.deciders.inputs import NAMES, inputs
from rudder.deciders.predictors import IN_ARRAYS, Floats, Layers, Predict
from rudder.observations import Action, Context, Decision, Facts, Outcome, Snapshot, Trend

VERSION = 1
REPLACE, IF_REPLACED, IF_KEPT = TARGETS = ("replace", "hits_if_replaced", "hits_if_kept")
TRENDS = tuple(Trend)
SUFFIXES = {"xgb": "ubj", "tabnet": "zip"}
# With its inputs, a decision of xgb took 0.3 ms and one of tabnet 1.6 ms; of the others, 0.1 ms.
_SLOW = ("xgb", "tabnet")
# Outcomes of a run that the head is refitted on, the latest.
_OUTCOMES = 512
# Pull back to the head as it was fitted, as so many outcomes would: few outcomes change little.
_PULL = 4.0
_STEPS = 50
# What reading a file that is missing, cut off or of another kind raises.
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile)


def _load(name: str, folder: Path) -> tuple[Floats, Floats, dict[str, list[int]]]:
    """(mean, std) of the inputs, float64 [F], and the classes of each target."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        scale = np.load(folder / "scale.npz", allow_pickle=False)
        mean, std = scale["mean"], scale["std"]
        version, names, classes = meta["version"], tuple(meta["inputs"]), meta["classes"]
    except _UNREADABLE as error:
        raise ValueError(
            f"--classifier-dir {folder}: no classifiers to read there ({error}): "
            "`python -m rudder.fit` writes them"
        ) from None
    if version != VERSION or names != NAMES:
        raise ValueError(f"--classifier-dir {folder}: fitted on other inputs: fit anew")
    if name not in classes:
        raise ValueError(
            f"--classifier-dir {folder} holds {', '.join(classes)}, not {name}: "
            f"`python -m rudder.fit --classifier {name}`"
        )
    return mean, std, classes[name]


def _load_predictor(name: str, file: Path) -> Predict:
    if not file.is_file():
        raise ValueError(f"{file} is missing: fit anew")
    try:
        if name in _SLOW:
            return {"xgb": _boosted, "tabnet": _network}[name](file)
        with np.load(file, allow_pickle=False) as arrays:
            return IN_ARRAYS[name](dict(arrays))
    except ImportError as error:
        raise ValueError(
            f"--decider {name}: {error}: pip install 'minidist[classifiers]'"
        ) from None
    except (*_UNREADABLE, RuntimeError, UnpicklingError) as error:
        raise ValueError(f"{file} cannot be read: {error}: fit anew") from None


def _boosted(file: Path) -> Predict:
    """XGBoost's trees, by its own predictor on one thread."""
    import xgboost

    booster = xgboost.Booster(model_file=file)
    booster.set_param({"nthread": 1})

    def predict(row: Floats) -> int:
        scores = booster.inplace_predict(row[None], predict_type="margin")[0]
        return int(scores > 0) if np.ndim(scores) == 0 else int(scores.argmax())

    return predict


def _network(file: Path) -> Predict:
    """TabNet's network, by torch."""
    import torch
    from pytorch_tabnet.tab_model import TabNetClassifier

    with warnings.catch_warnings():
        # It tells which device it uses, as a warning.
        warnings.simplefilter("ignore")
        classifier = TabNetClassifier(device_name="cpu", verbose=0)
        classifier.load_model(str(file))
    network = classifier.network.eval()

    def predict(row: Floats) -> int:
        with torch.inference_mode():
            return int(network(torch.from_numpy(row[None]).float())[0].argmax())

    return predict


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


class ClassifierDecider(Decider):
    """One of mlp, tabnet, lr, rf, svm, xgb; states where it expects %-Hits to go.

    folder: of ``rudder.fit``. finetune_every: refit the head that decides, every so many
    decisions, on the outcomes of this run; 0 never.
    Raises ValueError where the folder lacks the classifier or was made for other inputs, where a
    library is not installed, and where this kind has no head to refit.
    """

    def __init__(self, name: str, facts: Facts, folder: Path, finetune_every: int) -> None:
        self.name, self.slow = name, name in _SLOW
        self._mean, self._std, self._classes = _load(name, folder)
        self._predictors = {
            target: _load_predictor(name, folder / f"{name}-{target}.{SUFFIXES.get(name, 'npz')}")
            for target in TARGETS
        }
        self._tuning = None
        if finetune_every:
            predictor = self._predictors[REPLACE]
            if not isinstance(predictor, Layers):
                raise ValueError(
                    f"--finetune-every {finetune_every}: {name} has no head to refit: "
                    "mlp and lr have"
                )
            self._tuning = _Tuning(predictor, finetune_every)
        # Compiles what is compiled, and shows at the start whether the files work at all.
        first = Snapshot(
            minibatch=0, capacity=facts.capacity, num_minibatches=facts.num_minibatches
        )
        self._judge(self._read(Context(recent=(first,))))

    def decide(self, context: Context, act: Act) -> Decision:
        row = self._read(context)
        if self._tuning is not None:
            self._tuning.learn(context, row)
        word, trend = self._judge(row)
        return Decision(action=Action(word), minibatch=context.latest.minibatch, expect_hits=trend)

    def _read(self, context: Context) -> Floats:
        """The standardised inputs, float64 [F]."""
        return (inputs(context) - self._mean) / self._std

    def _judge(self, row: Floats) -> tuple[bool, Trend]:
        """Whether to replace, and where %-Hits then go."""
        word = bool(self._predict(REPLACE, row))
        return word, TRENDS[self._predict(IF_REPLACED if word else IF_KEPT, row)]

    def _predict(self, target: str, row: Floats) -> int:
        """A predictor's class k stands for ``classes[k]``: 0 keep and 1 replace, or a place in
        ``TRENDS``."""
        return self._classes[target][self._predictors[target](row)]


class _Tuning:
    """Refits the last layer on what a run has shown, all else frozen (paper, section 4.4)."""

    def __init__(self, predictor: Layers, every: int) -> None:
        self._predictor, self._every, self._decided = predictor, every, 0
        self._fitted_head = predictor.layers[-1]
        self._waiting: dict[int, Floats] = {}
        self._features: deque[Floats] = deque(maxlen=_OUTCOMES)
        self._right: deque[bool] = deque(maxlen=_OUTCOMES)

    def learn(self, context: Context, row: Floats) -> None:
        """Match outcomes with what was read when they were decided; refit when it is time."""
        for outcome in context.outcomes:
            read = self._waiting.pop(outcome.decision.minibatch, None)
            if read is not None:
                self._features.append(read)
                self._right.append(was_replacing_right(outcome))
        self._waiting[context.latest.minibatch] = self._predictor.features(row)
        self._decided += 1
        if self._decided % self._every == 0 and self._right:
            head = refit(*self._fitted_head, self._features, self._right)
            self._predictor.layers[-1] = head
