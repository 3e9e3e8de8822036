"""Predict every node of a graph with the best weights of a run, and write the predictions.

python -m minidist.train --dataset npz:data/real/amazon_photo.npz --out run --epochs 20
mpiexec -n 2 python examples/predict.py run run/parts predictions.npy

Every rank predicts the nodes of its own part, exactly, from all their neighbours.
"""

import json
import sys
from pathlib import Path

import numpy as np

from minidist import Parts, open_world
from minidist.store.host_shards import HostShards
from minidist.store.row_server import RowServer
from minidist.training.checkpoint import load_best
from minidist.training.evaluate import LayerwiseInference
from minidist.training.models import build_model

run, parts = Path(sys.argv[1]), Parts.open(sys.argv[2])
config = json.loads((run / "summary.json").read_text())["config"]
weights, scores = load_best(run)
with open_world() as world:
    shards = HostShards.open(parts, world)
    model = build_model(
        config["model"],
        num_features=parts.num_features,
        hidden=config["hidden"],
        num_classes=parts.num_classes,
        num_layers=len(config["fanout"]),
        dropout=config["dropout"],
    ).to(world.device)
    model.load_state_dict(weights)
    server = RowServer(world.transport, shards.own.book, shards.own.x)
    inference = LayerwiseInference(world, server, shards.mapped)
    mine = [logits.argmax(dim=1).cpu().numpy() for _, logits in inference.run(model)]
    # By original ids, as the dataset numbers its nodes.
    pieces = world.group.all_gather((shards.own.node_ids, np.concatenate(mine)), "collecting")
    if world.rank == 0:
        predictions = np.empty(parts.num_nodes, np.int64)
        for node_ids, classes in pieces:
            predictions[node_ids] = classes
        np.save(sys.argv[3], predictions)
        print(f"epoch {scores['epoch'] + 1}, test {scores['test']:.4f}: wrote {sys.argv[3]}")
