"""What the README shows is what runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "own_model.py"


def test_readme_shows_the_example() -> None:
    code = EXAMPLE.read_text().split('"""')[2].strip()
    assert code in (ROOT / "README.md").read_text()


def test_own_model_trains_on_two_ranks(tmp_path: Path) -> None:
    python = [sys.executable, "-m"]
    words = ["--dataset", "synthetic:tiny", "--parts", "2", "--out", str(tmp_path / "parts")]
    subprocess.run([*python, "minidist.partition", *words], check=True, capture_output=True)
    mpiexec = str(Path(sys.executable).parent / "mpiexec")
    words = [mpiexec, "-n", "2", sys.executable, str(EXAMPLE), str(tmp_path / "parts")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
