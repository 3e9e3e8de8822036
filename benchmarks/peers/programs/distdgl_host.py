"""One host of DistDGL: a graph server and a trainer, which share /dev/shm; ends when both have.

    python distdgl_host.py SETTINGS.json HOST

Exits with 1 as soon as either fails. It must be started in a session of its own, whose processes
whoever started it kills at the end, as the samplers of a trainer outlive one that is killed; if the
starter dies, that is done here.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# After the trainer's end, its server hears of it and leaves.
_SERVER_LIMIT_S = 30.0


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text())
    starter = os.getppid()
    host, hosts, samplers = int(sys.argv[2]), settings["hosts"], settings["samplers"]
    shared = {
        **os.environ,
        **settings["environment"],
        "DGL_DIST_MODE": "distributed",
        "DGL_NUM_SAMPLER": str(samplers),
        "DGL_NUM_SERVER": "1",
        "DGL_NUM_CLIENT": str(hosts * (1 + samplers)),
        "DGL_CONF_PATH": settings["part_config"],
        "DGL_IP_CONFIG": settings["ip_config"],
        "DGL_GRAPH_FORMAT": "csc",
        "DGL_KEEP_ALIVE": "0",
    }
    meeting = {"MASTER_ADDR": settings["master"], "MASTER_PORT": "29400", "RANK": str(host)}
    meeting |= {"WORLD_SIZE": str(hosts), "GLOO_SOCKET_IFNAME": "eth0"}
    threads = str(settings["threads"])
    roles = (
        {"DGL_ROLE": "server", "DGL_SERVER_ID": str(host), "OMP_NUM_THREADS": "1"},
        {"DGL_ROLE": "client", "OMP_NUM_THREADS": threads, **meeting},
    )
    program = Path(__file__).parent / "distdgl_train.py"
    words = [sys.executable, str(program), sys.argv[1]]
    server, trainer = (subprocess.Popen(words, env={**shared, **role}) for role in roles)
    while trainer.poll() is None:
        if os.getppid() != starter:
            os.killpg(0, signal.SIGKILL)
        if server.poll():
            trainer.kill()
            return 1
        time.sleep(0.1)
    if trainer.returncode:
        server.kill()
        return 1
    return int(server.wait(_SERVER_LIMIT_S) != 0)


if __name__ == "__main__":
    raise SystemExit(main())
