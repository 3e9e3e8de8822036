"""The model's own parts: dropout. That layers equal PyG's is ``test_evaluate``'s concern."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minidist.training.models import GNN


def dropped(model: GNN, key: int, shape: tuple[int, int]) -> torch.Tensor:
    model.reseed(key)
    return model._drop(torch.ones(shape))


@pytest.mark.parametrize("dropout", [1e-9, 0.1, 0.5, 0.9, 1 - 1e-9])
def test_dropout_drops_its_share_and_keeps_the_mean(dropout: float) -> None:
    model = GNN([torch.nn.Linear(1, 1)], [1, 1], dropout)
    h = dropped(model, 7, (4001, 251))
    values = torch.unique(h)
    assert len(values) <= 2
    assert len(values) == 1 or values[0] == 0
    # Five standard deviations of a binomial share, and the 2^-16 that probabilities come in.
    share, spread = (h == 0).double().mean(), (dropout * (1 - dropout) / h.numel()) ** 0.5
    assert abs(share - dropout) < 5 * spread + 2**-15
    if 0.05 < dropout < 0.95:
        assert abs(h.double().mean() - 1) < 5 * spread / (1 - dropout) + 1e-6
        # Each of the four values of a draw by itself, and neighbours together.
        flat = (h == 0).flatten()[: h.numel() // 4 * 4].double().view(-1, 4)
        assert (flat.mean(0) - dropout).abs().max() < 10 * spread
        assert torch.corrcoef(flat.T).fill_diagonal_(0).abs().max() < 0.01


def test_dropout_is_a_function_of_its_key_alone() -> None:
    model = GNN([torch.nn.Linear(1, 1)], [1, 1], 0.5)
    first = dropped(model, 3, (50, 7))
    assert not torch.equal(first, dropped(model, 4, (50, 7)))
    torch.manual_seed(0)
    torch.rand(5)
    assert torch.equal(first, dropped(model, 3, (50, 7)))
    model.eval()
    assert torch.equal(dropped(model, 3, (50, 7)), torch.ones(50, 7))


def test_no_files_of_pyg_are_left(tmp_path: Path) -> None:
    program = (
        "from minidist.training.models import build_model\n"
        "for name in ('sage', 'gat', 'GATv2Conv'):\n"
        "    build_model(name, num_features=4, hidden=8, num_classes=3, num_layers=2, dropout=0.0)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
