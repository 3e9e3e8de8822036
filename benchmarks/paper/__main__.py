"""The figures and tables of the paper's evaluation, on graphs that fit here, on one page.

    python -m benchmarks.paper                          all, as root: links of --rate; an hour
    python -m benchmarks.paper --quick                  all, smaller: minutes
    python -m benchmarks.paper --exhibits modes,pass_at_1 --agent-model embedded,model.gguf
    python -m benchmarks.paper --exhibits none          the page alone, anew

OUT/index.html shows all exhibits whose JSON is in OUT, also those of earlier commands; beside it
are each one's NAME.json (settings, rows, claims, table) and NAME.svg. An exhibit that cannot run
does not stop the others; the exit code is then 1.
"""

from benchmarks.command import one_line
from benchmarks.paper.settings import PaperConfig
from rudder.cli.flags import parse

if __name__ == "__main__":
    config = parse(PaperConfig, __doc__)
    # Imported late: who asks for help does not wait for PyTorch.
    from benchmarks.paper.exhibits import run

    with one_line():
        raise SystemExit(run(config))
