"""Resources: what ranks need of their host, asked for before they start instead of crashed for.

MPICH maps its messages' buffers in /dev/shm, and a rank dies of SIGBUS, without a word, where that
is full: containers give it 64 MB. Files that cannot be opened end in errors anywhere.
"""

import os
import re
import resource
import time
from contextlib import suppress
from pathlib import Path

from minidist.comm.host import available_bytes
from rudder.cli.whole_file import size_text

# MPICH 5.0 with V connections to a peer takes (V + 4.15) V MiB a rank: 5.2 with 1, 32.6 with 4.
_CONNECTIONS = "MPIR_CVAR_CH4_NUM_VCIS"
_MIB_BESIDE = 4.3
_STARTING_S = 60.0
# Libraries, logs and the parts' maps, which keep their files open; connections to a peer.
_OPEN_FILES, _OPEN_FILES_A_PEER = 200, 24


def one_host() -> bool:
    """Whether all ranks of this MPI job are on our host, as far as the launcher says."""
    if "MPI_LOCALNRANKS" in os.environ:
        return os.environ["MPI_LOCALNRANKS"] == os.environ.get("PMI_SIZE")
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in os.environ:
        return os.environ["OMPI_COMM_WORLD_LOCAL_SIZE"] == os.environ["OMPI_COMM_WORLD_SIZE"]
    return os.environ.get("SLURM_STEP_NUM_NODES") == "1"


def local_ranks() -> tuple[int, int]:
    """Our number among the ranks of our host, and how many those are, as the launcher says."""
    for number, count in (
        ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ("LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ):
        if number in os.environ and count in os.environ:
            return int(os.environ[number]), int(os.environ[count])
    # Slurm's is like "2(x3),1": 2 tasks on each of 3 nodes, and 1 on the last.
    counts = re.findall(r"(\d+)(?:\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    return int(os.environ.get("SLURM_LOCALID", "0")), max(map(int, counts))


def require_shared_memory(folder: Path = Path("/dev/shm")) -> None:
    """Raise ValueError where MPI's buffers would not fit; looked at before MPI starts.

    By every rank: one that failed alone would leave the others waiting in MPI for ever.
    """
    _, local_size = local_ranks()
    if local_size == 1 or not folder.is_dir():
        return
    connections = int(os.environ.get(_CONNECTIONS, "1"))
    needed = int(local_size * (connections + _MIB_BESIDE) * connections * 2**20)
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize + _taken_by_us(folder)
    if free < needed:
        fewer = f", or take fewer connections with {_CONNECTIONS}=1" if connections > 1 else ""
        raise ValueError(
            f"{folder} has {size_text(free)} free, but MPI needs {size_text(needed)} there for "
            f"{local_size} ranks: enlarge it (docker run --shm-size 1g, or mount -o "
            f"remount,size=1g {folder}), delete mpich_* that dead jobs left there{fewer}"
        )


def _taken_by_us(folder: Path) -> int:
    """Bytes that other ranks of our job may have taken while we started."""
    taken, since = 0, time.time() - _STARTING_S
    for file in folder.glob("mpich_*"):
        with suppress(FileNotFoundError):
            status = file.stat()
            taken += status.st_blocks * 512 * (status.st_ctime > since)
    return taken


def require_open_files(ranks: int) -> None:
    """Raise our limit of open files to what a job of so many ranks may take.

    Raises ValueError where the hard limit does not allow it.
    """
    needed = _OPEN_FILES + _OPEN_FILES_A_PEER * ranks
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"a process may open {hard} files here, but a rank of {ranks} may need {needed}: raise "
            f"the limit with ulimit -n {needed}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def require_memory(needed: int, what: str) -> None:
    """Raise ValueError where this host has not so many bytes left for ``what``, a flag's."""
    free = available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"{what}: {size_text(needed)} of memory needed on this host, but {size_text(free)} are "
            "free: ask for less, or use more hosts"
        )
