"""Predictors: fitted classifiers in plain arrays, which classify one row at a time.

The libraries that fit them take up to a millisecond for a single row; these take microseconds, and
find the same class. F inputs, K classes, H inputs of a head, S support vectors, M nodes of all
trees together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# As a file holds them, by name.
Arrays = dict[str, NDArray[Any]]
# From a standardised row, float64 [F], to the number of its class, from 0.
Predict = Callable[[Floats], int]


class Layers:
    """Logistic regression (one layer) and the MLP (several, with ReLU between).

    arrays: weight0 float64 [in, out], bias0 [out], weight1 ... The last layer is the head; with
    two classes it has one output, the log-odds of the second.
    """

    def __init__(self, arrays: Arrays) -> None:
        numbers = range(len(arrays) // 2)
        self.layers = [(arrays[f"weight{layer}"], arrays[f"bias{layer}"]) for layer in numbers]

    def features(self, row: Floats) -> Floats:
        """What the head reads: float64 [H]."""
        for weight, bias in self.layers[:-1]:
            row = np.maximum(row @ weight + bias, 0.0)
        return row

    def __call__(self, row: Floats) -> int:
        weight, bias = self.layers[-1]
        scores = self.features(row) @ weight + bias
        return int(scores[0] > 0) if len(scores) == 1 else int(scores.argmax())


def _kernel(arrays: Arrays) -> Predict:
    """A support vector machine with a Gaussian kernel, one vote for each pair of classes.

    vectors: float64 [S, F]. pairs: int64 [P, 2], P = K(K-1)/2; coefficients float64 [P, S] and
    intercepts [P]: above 0 votes for a pair's first class. gamma: float64 [].
    """
    vectors, pairs, gamma = arrays["vectors"], arrays["pairs"], arrays["gamma"]
    coefficients, intercepts = arrays["coefficients"], arrays["intercepts"]

    def predict(row: Floats) -> int:
        apart = vectors - row
        near = np.exp(-gamma * np.einsum("sf,sf->s", apart, apart))
        for_first = coefficients @ near + intercepts > 0
        return int(np.bincount(np.where(for_first, pairs[:, 0], pairs[:, 1])).argmax())

    return predict


def _forest(arrays: Arrays) -> Predict:
    """A random forest: trees in one array, each node before its children.

    roots: int64, one a tree. column int64 [M]: input that is compared, -1 at a leaf; threshold
    float64 [M]; left, right int64 [M]: where to go at or below it, and above. shares float64
    [M, K]: of the classes at a node.
    """
    names = ("roots", "column", "threshold", "left", "right", "shares")
    trees = [arrays[name] for name in names]

    def predict(row: Floats) -> int:
        # scikit-learn's trees compare inputs as float32.
        return int(_mean_shares(row.astype(np.float32), *trees).argmax())

    return predict


@njit(cache=True, nogil=True)
def _mean_shares(
    row: NDArray[np.float32],
    roots: NDArray[np.int64],
    column: NDArray[np.int64],
    threshold: Floats,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    shares: Floats,
) -> Floats:
    total = np.zeros(shares.shape[1])
    for root in roots:
        node = root
        while column[node] >= 0:
            node = left[node] if row[column[node]] <= threshold[node] else right[node]
        total += shares[node]
    return total / len(roots)


# The classifiers that are kept as arrays, by the name given to ``--decider``.
IN_ARRAYS: dict[str, Callable[[Arrays], Predict]] = {
    "lr": Layers,
    "mlp": Layers,
    "svm": _kernel,
    "rf": _forest,
}
