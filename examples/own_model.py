"""A PyG model of your own on minidist's loader.

python -m minidist.partition --dataset synthetic:small --parts 2 --out parts
mpiexec -n 2 python examples/own_model.py parts
"""

import sys
from contextlib import closing

import torch
import torch.nn.functional as F
from torch_geometric.nn import GraphSAGE

from minidist import GradientSum, Loader, Parts, open_world, steer
from rudder import SteerConfig

with open_world() as world:
    parts = Parts.open(sys.argv[1])
    loader = Loader.open(world, parts, fanouts=(10, 25), batch_size=500)
    model = GraphSAGE(parts.num_features, 128, num_layers=2, out_channels=parts.num_classes)
    model.to(world.device)
    gradients = GradientSum(model, world.group)
    adam = torch.optim.Adam(model.parameters(), lr=0.003)
    # A buffer for remote rows, of 25% of the halo; without this line each is fetched anew.
    with closing(steer(SteerConfig(prefetch="lookahead"), world, parts, loader, num_epochs=5)):
        for batch in loader.run(num_epochs=5):
            data = batch.to_data()
            logits = model(data.x, data.edge_index)[: data.batch_size]
            loss = F.cross_entropy(logits, data.y, reduction="sum") / batch.num_global_seeds
            adam.zero_grad()
            total = gradients.backward(loss, batch.moment)
            adam.step()
            if world.rank == 0 and batch.moment.step == len(loader) - 1:
                print(f"epoch {batch.moment.epoch}: loss {total:.4f}")
