"""Synthetic graphs: power-law degrees, communities, homophily, labels a GNN learns and an MLP not.

N nodes, E directed edges, D features, C classes. The arrays are a function of (spec, seed) alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidist.data.community_model import BlockModel
from minidist.graph import Graph, in_edges

ROWS = 1 << 16  # feature rows made at once


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """What to generate.

    num_nodes N, num_features D, num_classes C, num_train and num_val nodes (the rest is test).
    mean_degree: directed edges per node before duplicates are dropped.
    exponent: of the power law of degrees, over 2; smaller means heavier hubs.
    homophily: share of edges drawn inside the class; locality: of those, the share drawn inside a
    community of about ``community_size`` nodes; global_share: share of edges drawn anywhere, the
    remainder goes to the class's region (about sqrt(C) classes).
    signal: distance of a class's mean feature from 0 in standard deviations of one node's noise.
    label_noise: share of nodes with a random label (multi-label: of label bits flipped).
    multilabel: a class becomes a set of labels instead of one label.

    Raises ValueError naming the field that makes no sense.
    """

    num_nodes: int
    num_features: int
    num_classes: int
    num_train: int
    num_val: int
    mean_degree: float
    exponent: float = 2.4
    homophily: float = 0.7
    locality: float = 0.7
    global_share: float = 0.08
    community_size: int = 400
    signal: float = 1.5
    label_noise: float = 0.04
    multilabel: bool = False

    def __post_init__(self) -> None:
        checks = {
            "num_nodes": self.num_nodes >= 2,
            "num_features": self.num_features >= 1,
            "num_classes": 1 <= self.num_classes <= self.num_nodes,
            "num_train": 1 <= self.num_train <= self.num_nodes,
            "num_val": 0 <= self.num_val <= self.num_nodes - self.num_train,
            "mean_degree": 2 <= self.mean_degree <= self.num_nodes,
            "exponent": self.exponent > 2,
            "homophily": 0 <= self.homophily <= 1,
            "locality": 0 <= self.locality <= 1,
            "global_share": 0 <= self.global_share <= 1 - self.homophily,
            "community_size": self.community_size >= 1,
            "signal": self.signal >= 0,
            "label_noise": 0 <= self.label_noise <= 1,
        }
        for field, sensible in checks.items():
            if not sensible:
                raise ValueError(f"synthetic graph: {field}={getattr(self, field)} makes no sense")


def _preset(nodes: int, degree: float, features: int, classes: int, train: int, val: int,
            **fields: float) -> SyntheticSpec:  # fmt: skip
    return SyntheticSpec(
        num_nodes=nodes, mean_degree=degree, num_features=features, num_classes=classes,
        num_train=train, num_val=val, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


PRESETS = {
    "tiny": _preset(1_000, 12, 32, 5, 300, 200, community_size=50, signal=1.3),
    "tiny-multilabel": _preset(1_000, 12, 32, 8, 300, 200, community_size=50, multilabel=True),
    "small": _preset(15_000, 18, 64, 10, 3_000, 1_500),
    "medium": _preset(200_000, 23, 100, 20, 20_000, 10_000),
    "large": _preset(1_000_000, 31, 100, 40, 90_000, 20_000),
    "products": _preset(2_449_029, 53.5, 100, 47, 196_615, 39_323),
}


def read_spec(text: str) -> SyntheticSpec:
    """``PRESET`` or ``PRESET,field=value,...``: a preset with other values of ``SyntheticSpec``.

    Raises ValueError naming the preset, the field or the value that makes no sense.
    """
    preset, *changes = text.split(",")
    if preset not in PRESETS:
        raise ValueError(f"synthetic:{preset}: expected one of {', '.join(PRESETS)}")
    kinds: dict[Any, Callable[[str], Any]] = {int: int, float: float, bool: "True".__eq__}
    readers = {field.name: kinds[field.type] for field in fields(SyntheticSpec)}
    changed = {}
    for change in changes:
        name, _, value = change.partition("=")
        try:
            changed[name] = readers[name](value)
        except (KeyError, ValueError):
            raise ValueError(
                f"synthetic:{text}: {change!r}: expected a number for one of {', '.join(readers)}"
            ) from None
    return replace(PRESETS[preset], **changed)


def generate(spec: SyntheticSpec, seed: int = 0, name: str = "synthetic") -> Graph:
    """The graph of a spec: undirected (both directions present), no self loops, no isolated nodes.

    seed: 0 or more.
    """
    rng = np.random.default_rng([seed, spec.num_nodes])
    classes, model = _blocks(spec, rng)
    node_ids = rng.permutation(spec.num_nodes).astype(np.int32)  # so ids tell nothing
    position = np.empty_like(node_ids)
    position[node_ids] = np.arange(spec.num_nodes, dtype=np.int32)
    owners = model.owners
    others = node_ids[model.draw(owners)]
    owners = node_ids[owners]
    indptr, indices = in_edges(
        name, owners, others, spec.num_nodes, undirected=True, warn=False
    )  # some stubs draw the same edge: that is the model's, and worth no warning
    del owners, others
    classes = classes[position]
    x = _features(spec, classes, rng)
    y = _labels(spec, classes, rng)
    split = rng.permutation(spec.num_nodes)
    masks = np.zeros((3, spec.num_nodes), bool)
    ends = (0, spec.num_train, spec.num_train + spec.num_val, spec.num_nodes)
    for mask, (first, last) in zip(masks, pairwise(ends), strict=True):
        mask[split[first:last]] = True
    return Graph(
        name=name,
        indptr=indptr,
        indices=indices,
        x=x,
        y=y,
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
        num_classes=spec.num_classes,
    )


def _blocks(spec: SyntheticSpec, rng: np.random.Generator) -> tuple[NDArray[np.int64], BlockModel]:
    """Class of each position, int64 [N], and the edge model over positions."""
    n, num_classes = spec.num_nodes, spec.num_classes
    sizes = 1 / np.sqrt(np.arange(1, num_classes + 1))
    sizes = rng.permutation(sizes / sizes.sum())  # the largest class is no neighbour of the next
    class_ends = np.maximum(np.round(np.cumsum(sizes) * (n - num_classes)), 0).astype(np.int64)
    class_ends += np.arange(1, num_classes + 1)  # at least one node each
    class_ptr = np.concatenate(([0], class_ends))
    class_ptr[-1] = n
    per_region = math.ceil(math.sqrt(num_classes))
    ranges, edges = [], [0]
    for label in range(num_classes):
        first, last = int(class_ptr[label]), int(class_ptr[label + 1])
        region = label // per_region * per_region
        region_end = min(region + per_region, num_classes)
        num_communities = max(1, (last - first) // spec.community_size)
        cuts = np.linspace(first, last, num_communities + 1).astype(np.int64).tolist()
        for start, stop in pairwise(cuts):
            outer = [(first, last), (class_ptr[region], class_ptr[region_end]), (0, n)]
            ranges.append([(start, stop), *outer])
            edges.append(stop)
    classes = np.repeat(np.arange(num_classes), np.diff(class_ptr))
    model = BlockModel(
        stub_ptr=np.concatenate(([0], np.cumsum(_stubs(spec, rng)))),
        community=np.repeat(np.arange(len(ranges), dtype=np.int32), np.diff(edges)),
        ranges=np.array(ranges, dtype=np.int64),
        levels=np.array(
            [spec.homophily * spec.locality, spec.homophily, 1 - spec.global_share], np.float64
        ),
        clip=math.ceil(2 * spec.mean_degree),
        seed=int(rng.integers(1 << 63)),
    )
    return classes, model


def _stubs(spec: SyntheticSpec, rng: np.random.Generator) -> NDArray[np.int64]:
    """Stubs per node, int64 [N], at least 1: a Pareto law cut at ``mean_degree * sqrt(N) / 4``.

    Half of the degree is drawn here; the other half is how often a node is drawn by others.
    """
    mean = spec.mean_degree / 2
    heaviest = max(2.0, mean * math.sqrt(spec.num_nodes) / 4)
    weights = (1 - rng.random(spec.num_nodes)) ** (-1 / (spec.exponent - 1))
    for _ in range(20):  # the cut lowers the mean, and raising the mean makes more to cut
        weights = np.minimum(weights * (mean / weights.mean()), heaviest)
    stubs = np.floor(weights + rng.random(spec.num_nodes)).astype(np.int64)
    return np.maximum(stubs, 1)


def _labels(
    spec: SyntheticSpec, classes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64] | NDArray[np.uint8]:
    num_nodes, num_classes = spec.num_nodes, spec.num_classes
    if not spec.multilabel:
        noisy = rng.random(num_nodes) < spec.label_noise
        return np.where(noisy, rng.integers(num_classes, size=num_nodes), classes)
    sets = (rng.random((num_classes, num_classes)) < 0.25) | np.eye(num_classes, dtype=bool)
    flips = rng.random((num_nodes, num_classes)) < spec.label_noise
    return (sets[classes] ^ flips).astype(np.uint8)


def _features(
    spec: SyntheticSpec, classes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Class mean plus unit noise, float32 [N, D]; only averaging reveals it."""
    means = rng.standard_normal((spec.num_classes, spec.num_features))
    means *= spec.signal / np.linalg.norm(means, axis=1, keepdims=True)
    means = means.astype(np.float32)
    x = np.empty((spec.num_nodes, spec.num_features), np.float32)
    for start in range(0, spec.num_nodes, ROWS):
        rows = x[start : start + ROWS]
        rng.standard_normal(dtype=np.float32, out=rows)
        rows += means[classes[start : start + ROWS]]
    return x
