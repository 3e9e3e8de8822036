"""Predictors: fitted classifiers in plain arrays, which classify one row at a time.

The libraries that fit them take up to a millisecond for a single row; these take microseconds, and
find the same class. F inputs, K classes, H inputs of a head, S support vectors, M nodes of all
trees together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]


class Predictor(Protocol):
    """Something that tells to which of its classes a row belongs."""

    def predict(self, row: Floats) -> int:
        """row: float64 [F], standardised. Returns the number of a class, from 0."""
        ...


class InArrays(Predictor):
    """A predictor whose fields are arrays, as a file holds them."""

    def arrays(self) -> Arrays:
        """What ``from_arrays`` reads."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        return cls(**arrays)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers(InArrays):
    """Logistic regression (one layer) and the MLP (several, with ReLU between).

    weights: float64 [in, out] each, biases: float64 [out]. The last layer is the head; with two
    classes it has one output, the log-odds of the second.
    """

    weights: Sequence[Floats]
    biases: Sequence[Floats]

    def features(self, row: Floats) -> Floats:
        """What the head reads: float64 [H]."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            row = np.maximum(row @ weight + bias, 0.0)
        return row

    def predict(self, row: Floats) -> int:
        scores = self.features(row) @ self.weights[-1] + self.biases[-1]
        return int(scores[0] > 0) if len(scores) == 1 else int(scores.argmax())

    def arrays(self) -> Arrays:
        weights = {f"weight{layer}": weight for layer, weight in enumerate(self.weights)}
        return weights | {f"bias{layer}": bias for layer, bias in enumerate(self.biases)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        layers = range(len(arrays) // 2)
        return cls(
            weights=[arrays[f"weight{layer}"] for layer in layers],
            biases=[arrays[f"bias{layer}"] for layer in layers],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel(InArrays):
    """A support vector machine with a Gaussian kernel, one vote for each pair of classes.

    vectors: float64 [S, F]. pairs: int64 [P, 2], P = K(K-1)/2; coefficients float64 [P, S] and
    intercepts [P]: above 0 votes for a pair's first class. gamma: float64 [].
    """

    vectors: Floats
    pairs: NDArray[np.int64]
    coefficients: Floats
    intercepts: Floats
    gamma: Floats

    def predict(self, row: Floats) -> int:
        apart = self.vectors - row
        near = np.exp(-self.gamma * np.einsum("sf,sf->s", apart, apart))
        for_first = self.coefficients @ near + self.intercepts > 0
        votes = np.where(for_first, self.pairs[:, 0], self.pairs[:, 1])
        return int(np.bincount(votes).argmax())


@dataclass(frozen=True, kw_only=True, eq=False)
class Forest(InArrays):
    """A random forest: trees in one array, each node before its children.

    roots: int64, one a tree. column int64 [M]: input that is compared, -1 at a leaf; threshold
    float64 [M]; left, right int64 [M]: where to go at or below it, and above. shares float64
    [M, K]: of the classes at a node.
    """

    roots: NDArray[np.int64]
    column: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    shares: Floats

    def predict(self, row: Floats) -> int:
        # scikit-learn's trees compare inputs as float32.
        narrow = row.astype(np.float32)
        trees = (self.column, self.threshold, self.left, self.right, self.shares)
        return int(_mean_shares(narrow, self.roots, *trees).argmax())


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
IN_ARRAYS: dict[str, type[InArrays]] = {
    "lr": Layers,
    "mlp": Layers,
    "svm": Kernel,
    "rf": Forest,
}
