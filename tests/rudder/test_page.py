"""The page in a real browser: it draws, fits a phone, goes dark, and nothing in it fails."""

from pathlib import Path

import pytest

from rudder.report import write_report
from tests.rudder.browser import MISSING, find_browser, probe
from tests.rudder.run_folders import RunFolder
from tests.rudder.test_report import write_grid

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason=MISSING)


def make_page(tmp_path: Path, num_runs: int) -> Path:
    """A page with all its parts, of names and reasons too long for a line."""
    long = "a-name-that-nobody-can-break-" * 4
    runs = [
        RunFolder(reasons=(long, "short"), epochs=30, config={"trace": f"/{long}"}),
        RunFolder(prefetch="none", decisions=False),
        RunFolder(finished=False, stated=False),
    ]
    folders = [run.write(tmp_path / f"{long}{n}") for n, run in enumerate(runs[:num_runs])]
    write_report(folders, tmp_path / "page.html", grid=write_grid(tmp_path / "grid.json"))
    return tmp_path / "page.html"


@pytest.mark.parametrize("num_runs", [1, 3])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_page_draws_and_fits(tmp_path: Path, width: int, num_runs: int) -> None:
    assert BROWSER is not None
    found = probe(BROWSER, make_page(tmp_path, num_runs), tmp_path, width, dark=False)
    assert found["console"] == []
    assert found["width"] == width
    assert found["scroll_width"] <= width
    assert found["beyond"] == []
    # Epochs twice, loss, scores, %-Hits, decisions, rows: of each run, but %-Hits without a buffer.
    assert len(found["drawn"]) == {1: 7, 3: 19}[num_runs]
    assert min(found["drawn"]) >= 1
    assert min(found["sizes"]) > 0.6 * min(width, 400) - 20
    assert found["smallest_text"] >= 12
    assert found["tip"]


def test_page_follows_the_dark_scheme(tmp_path: Path) -> None:
    assert BROWSER is not None
    page = make_page(tmp_path, 1)
    light, dark = (probe(BROWSER, page, tmp_path, 390, dark=dark) for dark in (False, True))
    for name in ("page_colour", "text_colour", "curve_colour"):
        assert light[name] != dark[name]
    assert dark["console"] == []


def test_the_probe_sees_what_is_wrong(tmp_path: Path) -> None:
    assert BROWSER is not None
    page = make_page(tmp_path, 1)
    wide = '<div style="width:700px">wide</div><img src="https://example.org/a.png">'
    script = "<script>throw new Error('planted')</script>"
    page.write_text(page.read_text().replace("<footer>", f"{wide}{script}<footer>"))
    found = probe(BROWSER, page, tmp_path, 390, dark=False)
    assert found["scroll_width"] > 390
    assert found["beyond"]
    assert any("planted" in line for line in found["console"])
    assert any("Content Security Policy" in line for line in found["console"])
