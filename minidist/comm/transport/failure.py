"""PeerFailed: a peer's handler raised; the caller learns who asked whom, for what, and why not."""

from minidist.comm.transport.base import Op
from minidist.moment import Moment


class PeerFailed(RuntimeError):
    """The handler of a peer raised an exception instead of answering."""

    def __init__(self, rank: int, peer: int, op: Op, moment: Moment, reason: str) -> None:
        super().__init__(f"rank {rank} asked rank {peer} for {op.name} ({moment}): {reason}")
        self.rank, self.peer, self.op, self.moment = rank, peer, op, moment


def reason_of(error: Exception) -> str:
    """What a handler's exception says, in one line that is never empty."""
    return f"{type(error).__name__}: {error}"
