"""Classifiers: fitted off line by ``rudder.fit``, they decide within a fraction of a millisecond.

    DIR/meta.json                 version, names of the inputs, classes, settings and scores
        scale.npz                 mean and std of the inputs, float64 [F]
        KIND-TARGET.npz           lr, mlp, svm, rf: the arrays of ``predictors``
        KIND-TARGET.ubj, .zip     xgb: XGBoost's own format; tabnet: pytorch-tabnet's

KIND is the classifier; TARGET is whether to replace, or where %-Hits go if that is done or not.
F inputs.
"""

import json
import warnings
import zipfile
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from rudder.deciders.base import Act, Decider
from rudder.deciders.head import refit, was_replacing_right
from rudder.deciders.inputs import NAMES, inputs
from rudder.deciders.predictors import IN_ARRAYS, Floats, Layers, Predictor
from rudder.observations import Action, Context, Decision, Facts, Snapshot, Trend

VERSION = 1
REPLACE, IF_REPLACED, IF_KEPT = TARGETS = ("replace", "hits_if_replaced", "hits_if_kept")
TRENDS = tuple(Trend)
SUFFIXES = {"xgb": "ubj", "tabnet": "zip"}
# With its inputs, a decision of xgb took 0.3 ms and one of tabnet 1.6 ms; of the others, 0.1 ms.
_SLOW = ("xgb", "tabnet")
# Outcomes of a run that the head is refitted on, the latest.
_OUTCOMES = 512
# What reading a file that is missing, cut off or of another kind raises.
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile)


class Boosted:
    """XGBoost's trees, by its own predictor on one thread."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        booster.set_param({"nthread": 1})

    def predict(self, row: Floats) -> int:
        scores = self._booster.inplace_predict(row[None], predict_type="margin")[0]
        return int(scores > 0) if np.ndim(scores) == 0 else int(scores.argmax())


class Network:
    """TabNet's network, by torch."""

    def __init__(self, network: Any) -> None:
        self._network = network.eval()

    def predict(self, row: Floats) -> int:
        import torch

        with torch.inference_mode():
            scores = self._network(torch.from_numpy(row[None]).float())[0]
        return int(scores.argmax())


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One classifier from a folder of ``rudder.fit``.

    mean, std: float64 [F]. predictors, classes: of each target; a predictor's class k stands for
    ``classes[k]``: 0 keep and 1 replace, or a place in ``TRENDS``.
    """

    mean: Floats
    std: Floats
    predictors: dict[str, Predictor]
    classes: dict[str, list[int]]

    def read(self, context: Context) -> Floats:
        """The standardised inputs of a context, float64 [F]."""
        return (inputs(context) - self.mean) / self.std

    def predict(self, target: str, row: Floats) -> int:
        """What the predictor of a target says of a standardised row."""
        return self.classes[target][self.predictors[target].predict(row)]


def load(name: str, folder: Path) -> Fitted:
    """Read a classifier by name. Raises ValueError where there is none that fits this code."""
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
    predictors = {
        target: _load_predictor(name, folder / f"{name}-{target}.{SUFFIXES.get(name, 'npz')}")
        for target in TARGETS
    }
    return Fitted(mean=mean, std=std, predictors=predictors, classes=classes[name])


def _load_predictor(name: str, file: Path) -> Predictor:
    if not file.is_file():
        raise ValueError(f"{file} is missing: fit anew")
    try:
        if name == "xgb":
            import xgboost

            return Boosted(xgboost.Booster(model_file=file))
        if name == "tabnet":
            return Network(_load_tabnet(file))
        with np.load(file, allow_pickle=False) as arrays:
            return IN_ARRAYS[name].from_arrays(dict(arrays))
    except ImportError as error:
        raise ValueError(
            f"--decider {name}: {error}: pip install 'minidist[classifiers]'"
        ) from None
    except (*_UNREADABLE, RuntimeError, UnpicklingError) as error:
        raise ValueError(f"{file} cannot be read: {error}: fit anew") from None


def _load_tabnet(file: Path) -> Any:
    from pytorch_tabnet.tab_model import TabNetClassifier

    with warnings.catch_warnings():
        # It tells which device it uses, as a warning.
        warnings.simplefilter("ignore")
        classifier = TabNetClassifier(device_name="cpu", verbose=0)
        classifier.load_model(str(file))
    return classifier.network


class ClassifierDecider(Decider):
    """One of mlp, tabnet, lr, rf, svm, xgb; states where it expects %-Hits to go.

    folder: of ``rudder.fit``. finetune_every: refit the head that decides, every so many
    decisions, on the outcomes of this run; 0 never.
    Raises ValueError where the folder lacks the classifier or was made for other inputs, where a
    library is not installed, and where this kind has no head to refit.
    """

    def __init__(self, name: str, facts: Facts, folder: Path, finetune_every: int) -> None:
        self.name, self.slow = name, name in _SLOW
        self._fitted = load(name, folder)
        self._every, self._decided = finetune_every, 0
        if finetune_every and IN_ARRAYS.get(name) is not Layers:
            raise ValueError(
                f"--finetune-every {finetune_every}: {name} has no head to refit: mlp and lr have"
            )
        self._fitted_head = self._fitted.predictors[REPLACE]
        self._waiting: dict[int, Floats] = {}
        self._features: deque[Floats] = deque(maxlen=_OUTCOMES)
        self._right: deque[bool] = deque(maxlen=_OUTCOMES)
        # Compiles what is compiled, and shows at the start whether the files work at all.
        first = Snapshot(
            minibatch=0, capacity=facts.capacity, num_minibatches=facts.num_minibatches
        )
        self._judge(self._fitted.read(Context(recent=(first,))))

    def decide(self, context: Context, act: Act) -> Decision:
        row = self._fitted.read(context)
        if self._every:
            self._learn(context, row)
        word, trend = self._judge(row)
        return Decision(action=Action(word), minibatch=context.latest.minibatch, expect_hits=trend)

    def _judge(self, row: Floats) -> tuple[bool, Trend]:
        word = bool(self._fitted.predict(REPLACE, row))
        return word, TRENDS[self._fitted.predict(IF_REPLACED if word else IF_KEPT, row)]

    def _learn(self, context: Context, row: Floats) -> None:
        """Match outcomes with what was read when they were decided; refit when it is time."""
        head = self._fitted_head
        assert isinstance(head, Layers)
        for outcome in context.outcomes:
            read = self._waiting.pop(outcome.decision.minibatch, None)
            if read is not None:
                self._features.append(read)
                self._right.append(was_replacing_right(outcome))
        self._waiting[context.latest.minibatch] = head.features(row)
        self._decided += 1
        if self._decided % self._every or not self._right:
            return
        weight, bias = refit(head.weights[-1], head.biases[-1], self._features, self._right)
        self._fitted.predictors[REPLACE] = replace(
            head, weights=[*head.weights[:-1], weight], biases=[*head.biases[:-1], bias]
        )
