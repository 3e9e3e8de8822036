"""The tour's blocks run in order and print what stands under them."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

TOUR = Path(__file__).parents[1] / "docs" / "tour.md"
PAIR = re.compile(r"```python\n(.*?)```\n```text\n(.*?)```", re.DOTALL)


def test_the_tour_prints_what_it_shows() -> None:
    blocks, names = PAIR.findall(TOUR.read_text()), dict[str, Any]()
    assert len(blocks) >= 14
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(TOUR), "exec"), names)
        assert printed.getvalue() == expected, code
