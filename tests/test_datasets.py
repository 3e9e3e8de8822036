"""The registry: names, and what a name that is not known is told."""

import numpy as np
import pytest

from minidist.data import synthetic
from minidist.data.datasets import load_dataset
from minidist.data.graph_source import NAMED, PRESETS
from minidist.data.ogb import SOURCES
from minidist.data.snap import EMBEDDINGS

SEVEN = {"ogbn-products", "ogbn-arxiv", "ogbn-papers100M"}
SEVEN |= {"reddit", "yelp", "com-orkut", "com-friendster"}


def test_every_name_has_a_reader() -> None:
    assert set(NAMED) == SEVEN == {*SOURCES, "reddit", "yelp", *EMBEDDINGS}
    assert tuple(synthetic.PRESETS) == PRESETS


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("ogbn-product", "ogbn-products"),
        ("Reddit", "reddit"),
        ("orkut", "com-orkut"),
        ("arxiv", "ogbn-arxiv"),
        ("synthetic:tny", "synthetic:tiny"),
        ("papers100m", "ogbn-papers100M"),
    ],
)
def test_an_unknown_name_is_told_the_close_ones(name: str, close: str) -> None:
    with pytest.raises(ValueError, match=f"unknown dataset '{name}': did you mean .*{close}"):
        load_dataset(name)


@pytest.mark.parametrize("name", ["qqq", "npz:", "synthetic:", ""])
def test_a_name_like_no_other_is_told_all_or_some(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown dataset .*: (known are ogbn-|did you mean)"):
        load_dataset(name)


def test_the_seed_chooses_the_generated_graph() -> None:
    first, again, other = (load_dataset("synthetic:tiny", seed=seed) for seed in (1, 1, 2))
    assert first.name == "synthetic:tiny"
    assert np.array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match=rf"seed {seed}: expected 0 to 2\^63 - 1"):
            load_dataset("synthetic:tiny", seed=seed)
