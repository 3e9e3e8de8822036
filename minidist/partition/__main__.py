"""Partition a graph and write the directory that ``minidist.train`` reads.

Alone, on the generated default graph:
    python -m minidist.partition --parts 2 --out parts

A real graph, on a Slurm node with enough memory (one process; ranks only read the result):
    srun -n 1 python -m minidist.partition --dataset ogbn-products --parts 4 --out parts4

A graph that METIS has no memory for:
    python -m minidist.partition --dataset npz:big.npz --parts 8 --method stream --out parts8
"""

from minidist.config import PartitionConfig
from minidist.data.graph_source import check_name
from rudder.cli.flags import fail, parse


def main() -> None:
    config = parse(PartitionConfig, __doc__ or "")
    try:
        check_name(config.dataset)
        # METIS, numba and the readers of datasets take seconds to import.
        from minidist.partition.partitioner import run

        run(config)
    except ValueError as error:
        fail(error)


if __name__ == "__main__":
    main()
