"""Our partition as DistDGL's: the same owners, the same ids, and so the same edges cut.

    FOLDER/
      NAME.json            part sizes, node and edge ranges, types, and the paths below
      part0/
        arrays.npz         what the peer's own program writes the three from
        graph.dgl          the in-edges of owned nodes; owned nodes first, then their halo
        node_feat.dgl      x, y and train_mask of owned nodes
        edge_feat.dgl      empty
      part1/ ...

Both number nodes so that a part owns a contiguous range, and keep an edge with the owner of its
destination; edges are numbered part by part, in the order of our in-edge lists. A part holds what
``dgl.distributed.partition_graph`` gives it with its default of one halo hop.

n owned nodes, h halo nodes, e in-edges of owned nodes, D features.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from minidist.store.partition_dir import Parts
    from minidist.store.shard import Shard

GRAPH_NAME = "graph"
_NODE, _EDGE = "_N", "_N:_E:_N"


def part_arrays(shard: "Shard", first_edge: int) -> dict[str, NDArray[Any]]:
    """One part, ids local to it unless they are named otherwise.

    src, dst: int64 [e].   node_ids: int64 [n + h], global.   inner_node: uint8 [n + h], 1 if owned.
    edge_ids: int64 [e], global, from first_edge on.   x float32 [n, D], y int64 [n], train_mask
    uint8 [n]: of owned nodes.
    """
    first = int(shard.book.offsets[shard.part])
    last = first + shard.num_nodes
    sources = shard.indices.astype(np.int64)
    remote = shard.num_nodes + np.searchsorted(shard.halo, sources)
    train_mask = np.zeros(shard.num_nodes, np.uint8)
    train_mask[shard.train_ids - first] = 1
    return {
        "src": np.where((sources >= first) & (sources < last), sources - first, remote),
        "dst": np.repeat(np.arange(shard.num_nodes), np.diff(shard.indptr)),
        "node_ids": np.concatenate([np.arange(first, last), shard.halo]),
        "inner_node": np.repeat(np.array([1, 0], np.uint8), [shard.num_nodes, len(shard.halo)]),
        "edge_ids": first_edge + np.arange(len(sources)),
        "x": np.array(shard.x),
        "y": np.array(shard.y),
        "train_mask": train_mask,
    }


def lay_out(parts: "Parts", folder: Path) -> Path:
    """Write the configuration and each part's arrays; returns the configuration's path."""
    node_map, edge_map, first_edge = [], [], 0
    config: dict[str, Any] = {
        "graph_name": GRAPH_NAME,
        "num_nodes": parts.num_nodes,
        "num_edges": parts.num_edges,
        "part_method": parts.method,
        "num_parts": parts.num_parts,
        "halo_hops": 1,
        "ntypes": {_NODE: 0},
        "etypes": {_EDGE: 0},
    }
    files = {"node_feats": "node_feat", "edge_feats": "edge_feat", "part_graph": "graph"}
    for part in range(parts.num_parts):
        home, arrays = folder / f"part{part}", part_arrays(parts.shard(part), first_edge)
        home.mkdir(parents=True)
        np.savez(home / "arrays.npz", **arrays)  # type: ignore[arg-type]
        node_map.append([int(offset) for offset in parts.book.offsets[part : part + 2]])
        edge_map.append([first_edge, first_edge := first_edge + len(arrays["src"])])
        config[f"part-{part}"] = {key: f"part{part}/{file}.dgl" for key, file in files.items()}
    config |= {"node_map": {_NODE: node_map}, "edge_map": {_EDGE: edge_map}}
    path = folder / f"{GRAPH_NAME}.json"
    path.write_text(json.dumps(config, indent=1))
    return path
