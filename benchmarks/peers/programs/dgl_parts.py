"""Write DistDGL's files from the arrays that ``benchmarks.peers.distdgl`` laid out.

    python dgl_parts.py FOLDER

FOLDER/part0/arrays.npz and so on become graph.dgl, node_feat.dgl and edge_feat.dgl beside them.
"""

import sys
from pathlib import Path
from types import ModuleType

# dgl 2.1 loads a library for GraphBolt, which exists for old PyTorch only; nothing here needs it.
sys.modules["dgl.graphbolt"] = ModuleType("dgl.graphbolt")

import dgl  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from dgl.data import utils  # type: ignore[import-not-found]  # noqa: E402


def write(folder: Path) -> None:
    loaded = np.load(folder / "arrays.npz")
    arrays = {name: torch.from_numpy(loaded[name]) for name in loaded}
    graph = dgl.graph((arrays["src"], arrays["dst"]), num_nodes=len(arrays["node_ids"]))
    graph.ndata[dgl.NID] = arrays["node_ids"]
    graph.ndata["inner_node"] = arrays["inner_node"]
    graph.edata[dgl.EID] = arrays["edge_ids"]
    graph.edata["inner_edge"] = torch.ones(len(arrays["edge_ids"]), dtype=torch.uint8)
    utils.save_graphs(str(folder / "graph.dgl"), [graph])
    features = {f"_N/{name}": arrays[name] for name in ("x", "y", "train_mask")}
    utils.save_tensors(str(folder / "node_feat.dgl"), features)
    utils.save_tensors(str(folder / "edge_feat.dgl"), {})


if __name__ == "__main__":
    for part in sorted(Path(sys.argv[1]).glob("part*")):
        write(part)
