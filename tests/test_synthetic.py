"""Generated graphs: what they promise of degrees, communities, labels and repeatability."""

import hashlib
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from minidist.counter_rng import MASK, mix, mix_plain
from minidist.data.community_model import BlockModel, draw_plain
from minidist.data.synthetic import PRESETS, SyntheticSpec, generate, read_spec
from minidist.graph import Graph


def in_means(graph: Graph, x: Any) -> Any:
    """Mean of x over in-neighbours; every node has some."""
    return np.add.reduceat(x[graph.indices], graph.indptr[:-1]) / np.diff(graph.indptr)[:, None]


def linear_probe(graph: Graph, features: Any) -> float:
    """Test accuracy (micro-F1 for multi-label) of ridge regression on one-hot labels."""
    features = np.concatenate([features, np.ones((graph.num_nodes, 1))], axis=1)
    known = features[graph.train_mask]
    y = graph.y if graph.multilabel else graph.y[:, None] == np.arange(graph.num_classes)
    ridge = known.T @ known + np.eye(features.shape[1])
    weights = np.linalg.solve(ridge, known.T @ (2.0 * y[graph.train_mask] - 1))
    scores = features[graph.test_mask] @ weights
    if graph.multilabel:
        guess, truth = scores > 0, y[graph.test_mask] > 0
        return float(2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
    return float((scores.argmax(axis=1) == graph.y[graph.test_mask]).mean())


@pytest.fixture(scope="module", params=["tiny", "small"])
def graph(request: pytest.FixtureRequest) -> Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return generate(PRESETS[request.param])


def test_a_gnn_can_learn_what_an_mlp_can_not(graph: Graph) -> None:
    one_hop = in_means(graph, graph.x)
    hops = np.concatenate([graph.x, one_hop, in_means(graph, one_hop)], axis=1)
    assert linear_probe(graph, graph.x) < 0.6
    assert linear_probe(graph, hops) >= 0.85


def test_multilabel_needs_neighbours_too() -> None:
    graph = generate(PRESETS["tiny-multilabel"])
    assert graph.multilabel
    one_hop = in_means(graph, graph.x)
    hops = np.concatenate([graph.x, one_hop, in_means(graph, one_hop)], axis=1)
    assert linear_probe(graph, graph.x) < 0.65
    assert linear_probe(graph, hops) >= 0.8


def test_undirected_without_loops_duplicates_or_isolated_nodes(graph: Graph) -> None:
    dst = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
    edges = set(zip(graph.indices.tolist(), dst.tolist(), strict=True))
    assert len(edges) == graph.num_edges
    assert all((v, u) in edges and u != v for u, v in edges)
    assert np.diff(graph.indptr).min() >= 1


def test_the_tail_of_degrees_is_heavy_and_edges_stay_in_the_class(graph: Graph) -> None:
    degrees = np.diff(graph.indptr)
    assert degrees.max() > 6 * degrees.mean()
    assert np.median(degrees) < 0.75 * degrees.mean()
    same = graph.y[graph.indices] == np.repeat(graph.y, degrees)
    assert 0.65 < same.mean() < 0.8


def test_splits_have_the_asked_sizes_and_cover_all(graph: Graph) -> None:
    spec = PRESETS["tiny" if graph.num_nodes == 1000 else "small"]
    assert graph.train_mask.sum() == spec.num_train
    assert graph.val_mask.sum() == spec.num_val
    covered = graph.train_mask.astype(int) + graph.val_mask + graph.test_mask
    assert (covered == 1).all()


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_the_arrays_are_the_same_on_every_machine() -> None:
    graph = generate(PRESETS["tiny"], seed=7)
    assert digest(graph.indptr) == "bae169fe1f876ab1"
    assert digest(graph.indices) == "61940c3ec496bb8d"
    assert digest(graph.y) == "2ffce33d038bd417"
    assert digest(graph.train_mask) == "53afe3d4f54791dc"
    assert np.abs(graph.x).sum() == pytest.approx(26269.693, rel=1e-4)


def test_the_spec_moves_what_it_says() -> None:
    tiny = PRESETS["tiny"]

    def homophily(spec: SyntheticSpec) -> float:
        graph = generate(spec)
        return float((graph.y[graph.indices] == np.repeat(graph.y, np.diff(graph.indptr))).mean())

    assert homophily(replace(tiny, homophily=0.9)) > homophily(tiny) + 0.08
    assert homophily(replace(tiny, homophily=0.3, global_share=0.5)) < homophily(tiny) - 0.2
    # The hubs of so small a graph are cut, so the tail shows in the share of the top tenth.
    heavy, light = (
        np.sort(np.diff(generate(replace(tiny, exponent=exponent)).indptr))
        for exponent in (2.1, 3.5)
    )
    assert heavy[-100:].sum() / heavy.sum() > 1.3 * light[-100:].sum() / light.sum()
    assert generate(replace(tiny, mean_degree=24)).num_edges > 1.7 * generate(tiny).num_edges


@pytest.mark.parametrize(
    "changes",
    [
        {"num_nodes": 2, "num_train": 1, "num_val": 0, "num_classes": 2, "mean_degree": 2},
        {"community_size": 1},
        {"num_classes": 1},
        {"num_classes": 200},
        {"homophily": 1.0, "locality": 1.0, "global_share": 0.0, "community_size": 5},
        {"homophily": 0.0, "global_share": 1.0},
    ],
)
def test_odd_specs_still_make_sound_graphs(changes: dict[str, Any]) -> None:
    graph = generate(replace(PRESETS["tiny"], **changes))
    assert np.diff(graph.indptr).min() >= 1
    assert (graph.indices != np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_nodes", 1),
        ("num_train", 0),
        ("num_val", 900),
        ("exponent", 2.0),
        ("homophily", 1.5),
        ("global_share", 0.5),
        ("mean_degree", 1.0),
    ],
)
def test_a_senseless_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"synthetic graph: {field}={value} makes no sense"):
        replace(PRESETS["tiny"], **{field: value})


@pytest.mark.parametrize("seed", range(4))
def test_draws_equal_the_plain_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_nodes = int(rng.integers(8, 60))
    cuts = np.array([0, 1, 4, num_nodes // 2, num_nodes])  # the first community is one node
    half = int(cuts[3])
    ranges = [
        [cuts[i : i + 2], (0, half) if i < 3 else (half, num_nodes), (0, num_nodes), (0, num_nodes)]
        for i in range(4)
    ]
    model = BlockModel(
        stub_ptr=np.concatenate(([0], np.cumsum(rng.integers(1, 30, size=num_nodes)))),
        community=np.repeat(np.arange(4, dtype=np.int32), np.diff(cuts)),
        ranges=np.array(ranges, np.int64),
        levels=np.sort(rng.random(3)),
        clip=10,
        seed=int(rng.integers(1 << 63)),
    )
    owners = model.owners
    assert model.draw(owners).tolist() == draw_plain(model, owners)
    assert (model.draw(owners) != owners).all()


def test_mix_equals_the_plain_twin_and_the_published_sequence() -> None:
    keys = [0, 1, MASK, *map(int, np.random.default_rng(0).integers(1 << 63, size=50))]
    assert [int(mix(np.uint64(key))) for key in keys] == [mix_plain(key) for key in keys]
    assert mix_plain(0) == 0xE220A8397B1DCDAF  # the first output of SplitMix64 seeded with 0


def test_a_preset_with_other_values() -> None:
    spec = read_spec("tiny,num_nodes=500,exponent=2.8,multilabel=True")
    assert spec == replace(PRESETS["tiny"], num_nodes=500, exponent=2.8, multilabel=True)
    for text in ("tiny,nodes=500", "tiny,num_nodes=many", "tiny,num_nodes"):
        with pytest.raises(ValueError, match="expected a number for one of num_nodes"):
            read_spec(text)
