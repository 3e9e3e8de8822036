"""Trainers: each library's way to fit a classifier, and the form that a run reads.

n examples, F inputs, K classes, S support vectors. All are functions of their arguments alone.
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.deciders.predictors import Arrays, Floats

Ints = NDArray[np.int64]
# The time that fitting an SVM takes grows with the square of its examples, and that of a decision
# with the vectors it keeps of them: 2000 keep a decision at 0.2 ms.
_SVM_EXAMPLES = 2000
_TABNET_EPOCHS = 30


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A fitted classifier. classes: int64 [K], what its class numbers stand for, ascending.

    classify: standardised rows, float64 [n, F], to class numbers [n], by the library itself.
    write: to a file, for ``deciders.classifier`` to read.
    """

    classes: Ints
    classify: Callable[[Floats], Any]
    write: Callable[[Path], None]

    def predict(self, rows: Floats) -> Ints:
        """Labels, int64 [n], of standardised rows [n, F]."""
        return self.classes[np.asarray(self.classify(rows), np.int64)]


def train(name: str, rows: Floats, labels: Ints, seed: int) -> Trained:
    """Fit one classifier. rows: float64 [n, F], standardised; labels: int64 [n], two kinds or more.

    Raises ValueError where its library is not installed.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    trainers = {"mlp": _mlp, "lr": _lr, "rf": _rf, "svm": _svm, "xgb": _xgb, "tabnet": _tabnet}
    try:
        with warnings.catch_warnings():
            # Not converged within so many steps, or which device is used: scores tell.
            warnings.simplefilter("ignore")
            classify, write = trainers[name](rows, numbers, seed)
    except ImportError as error:
        raise ValueError(
            f"--classifier {name}: {error}: pip install 'minidist[classifiers]'"
        ) from None
    return Trained(classes=classes, classify=classify, write=write)


_Fitted = tuple[Callable[[Floats], Any], Callable[[Path], None]]


def _kept(classify: Callable[[Floats], Any], arrays: Arrays) -> _Fitted:
    """A classifier that is written as arrays, those of ``deciders.predictors``."""
    return classify, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays)


def _lr(rows: Floats, numbers: Ints, seed: int) -> _Fitted:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000).fit(rows, numbers)
    return _kept(model.predict, {"weight0": model.coef_.T, "bias0": model.intercept_})


def _mlp(rows: Floats, numbers: Ints, seed: int) -> _Fitted:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((32, 16), alpha=0.01, max_iter=200, random_state=seed)
    model.fit(rows, numbers)
    weights = {f"weight{layer}": weight for layer, weight in enumerate(model.coefs_)}
    biases = {f"bias{layer}": bias for layer, bias in enumerate(model.intercepts_)}
    return _kept(model.predict, weights | biases)


def _rf(rows: Floats, numbers: Ints, seed: int) -> _Fitted:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(50, max_depth=10, min_samples_leaf=10, random_state=seed)
    trees = [tree.tree_ for tree in model.fit(rows, numbers).estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]

    def joined(field: str) -> Any:
        return np.concatenate([getattr(tree, field) for tree in trees])

    starts = np.repeat(roots, [tree.node_count for tree in trees])
    forest = {
        "roots": roots,
        # A leaf's children are -1, and its column is -2.
        "column": np.maximum(joined("feature"), -1),
        "threshold": joined("threshold"),
        "left": joined("children_left") + starts,
        "right": joined("children_right") + starts,
        "shares": joined("value")[:, 0],
    }
    return _kept(model.predict, forest)


def _svm(rows: Floats, numbers: Ints, seed: int) -> _Fitted:
    from sklearn.svm import SVC

    some = np.sort(np.random.default_rng(seed).permutation(len(rows))[:_SVM_EXAMPLES])
    # Every class must be there, for class numbers to be places in ``classes``.
    some = np.union1d(some, np.unique(numbers, return_index=True)[1])
    model = SVC(random_state=seed).fit(rows[some], numbers[some])
    ends = np.cumsum(model.n_support_)
    spans = [slice(end - count, end) for end, count in zip(ends, model.n_support_, strict=True)]
    pairs = list(combinations(range(len(spans)), 2))
    coefficients = np.zeros((len(pairs), ends[-1]))
    for row, (one, other) in enumerate(pairs):
        # libsvm's layout: a vector's row k is against the k-th of the other classes.
        coefficients[row, spans[one]] = model.dual_coef_[other - 1, spans[one]]
        coefficients[row, spans[other]] = model.dual_coef_[one, spans[other]]
    # With two classes scikit-learn turns the sign, so that above 0 is the second.
    sign = -1.0 if len(spans) == 2 else 1.0
    kernel = {
        "vectors": model.support_vectors_,
        "pairs": np.array(pairs),
        "coefficients": sign * coefficients,
        "intercepts": sign * model.intercept_,
        "gamma": np.array(model._gamma),
    }
    return _kept(model.predict, kernel)


def _xgb(rows: Floats, numbers: Ints, seed: int) -> _Fitted:
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=100, max_depth=4, learning_rate=0.1, n_jobs=1, random_state=seed
    )
    model.fit(rows, numbers)
    return model.predict, lambda file: model.get_booster().save_model(file)


def _tabnet(rows: Floats, numbers: Ints, seed: int) -> _Fitted:
    import torch
    from pytorch_tabnet.tab_model import TabNetClassifier

    # Its tensors are small: on busy cores, threads that wait for each other took 30 times as long.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = TabNetClassifier(seed=seed, verbose=0, device_name="cpu")
    # At least 4 steps an epoch, however few examples; a last batch that is not full is dropped.
    batch = int(np.clip(len(rows) // 4, 2, 256))
    narrow, sizes = rows.astype(np.float32), {"batch_size": batch, "virtual_batch_size": batch}
    model.fit(narrow, numbers, max_epochs=_TABNET_EPOCHS, patience=0, **sizes)
    torch.set_num_threads(threads)

    def write(file: Path) -> None:
        # It prints that it has, among other people's output.
        with contextlib.redirect_stdout(io.StringIO()):
            model.save_model(str(file.with_suffix("")))

    return lambda rows: model.predict(rows.astype(np.float32)), write
