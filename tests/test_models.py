"""The model's own parts: dropout. That layers equal PyG's is ``test_evaluate``'s concern."""

import pytest
import torch

from minidist.models import GNN


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
