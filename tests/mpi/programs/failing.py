"""Ranks that exchange or sum for ever, until one of them raises, dies or stops.

Arguments: a transport, ``exchange``, ``sum`` or ``first`` (rank 0 works alone for an hour), the
timeout in seconds, and a file. Rank 1 raises once the file exists, and each rank says when it is at
work.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from minidist.comm.transport.base import Call, Op
from minidist.comm.world import open_world
from minidist.moment import Moment


def main() -> None:
    transport, what, timeout, file = sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])
    with open_world(transport=transport, device="cpu", fetch_timeout=timeout) as world:
        world.transport.serve(Op.ROWS, lambda header, ids, allocate: np.zeros(len(ids), np.float32))
        world.group.barrier("serving")
        for step in range(1 << 30):
            if world.rank == 1 and file.exists():
                raise RuntimeError("this rank has had enough")
            if what == "first" and step > 5:
                world.group.first(lambda: time.sleep(3600), "working alone")
            elif what != "exchange":
                world.group.all_reduce(torch.ones(1000), "summing gradients", Moment(2, step))
            else:
                peer = 1 - world.rank
                reply = np.zeros(10, np.float32)
                ids = np.arange(10)
                call = Call(peer=peer, header=(0, 0), ids=ids, reply=reply, items_per_id=1)
                world.transport.exchange(Op.ROWS, [call], Moment(2, step), "fetch")
            if step == 5:
                Path(f"{file}.rank{world.rank}").touch()


if __name__ == "__main__":
    main()
