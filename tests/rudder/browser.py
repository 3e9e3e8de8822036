"""A browser without a window, for pages: what it makes of a file at a given width."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = "no chromium here: apt-get install chromium-headless-shell"
# Asks the page in the frame what it is, after it was laid out; the answer becomes our own text.
_PROBE = """
const frame = document.getElementById("frame");
frame.addEventListener("load", () => {
  const inside = frame.contentDocument, view = frame.contentWindow;
  if (!inside.querySelector("main")) return;  // The frame is still empty.
  for (const fold of inside.querySelectorAll("details")) fold.open = true;
  const style = (name) => view.getComputedStyle(inside.querySelector(name));
  const mark = inside.querySelector("[data-tip]");
  const box = mark.getBoundingClientRect();
  mark.dispatchEvent(new view.PointerEvent("pointermove", {
    bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + 4,
  }));
  const wide = [...inside.querySelectorAll("body *")].filter(
    (e) => e.getBoundingClientRect().right > view.innerWidth + 0.5 && !e.closest(".scroll")
      && !e.closest("#tip"));
  document.getElementById("answer").textContent = JSON.stringify({
    width: view.innerWidth,
    scroll_width: inside.documentElement.scrollWidth,
    beyond: wide.slice(0, 5).map((e) => e.outerHTML.slice(0, 120)),
    drawn: [...inside.querySelectorAll("svg.plot")].map(
      (svg) => svg.querySelectorAll("path, rect:not(.touch)").length),
    sizes: [...inside.querySelectorAll("svg.plot")].map(
      (svg) => svg.getBoundingClientRect().width),
    titles: [...inside.querySelectorAll("h3")].map((title) => title.textContent),
    page_colour: style("body").backgroundColor,
    text_colour: style("body").color,
    curve_colour: style(".curve").stroke,
    smallest_text: Math.min(...[...inside.querySelectorAll("svg text")].map(
      (text) => parseFloat(view.getComputedStyle(text).fontSize))),
    tip: inside.getElementById("tip").hidden ? "" : inside.getElementById("tip").textContent,
  });
});
"""


def find_browser() -> str | None:
    """A chromium to run, if this machine has one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def probe(browser: str, page: Path, folder: Path, width: int, dark: bool) -> dict[str, Any]:
    """Lay the page out in a frame of that width; returns what ``_PROBE`` found, and ``console``.

    console: what the browser wrote there, of the page's own policy and scripts too.
    """
    frame = html.escape(page.read_text(encoding="utf-8"))
    frame_tag = f'<iframe id="frame" style="width:{width}px;height:800px;border:0"'
    asking = folder / f"probe-{width}-{dark}.html"
    # The frame comes by script, once somebody listens for it.
    asking.write_text(
        f'<!doctype html><meta charset="utf-8"><body>{frame_tag}></iframe>'
        f'<pre id="answer"></pre><template id="page">{frame}</template><script>{_PROBE}'
        'frame.srcdoc = document.getElementById("page").content.textContent;</script>',
        encoding="utf-8",
    )
    command = [
        *(browser, "--headless", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"),
        *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000"),
        *("--window-size=1400,900", f"--blink-settings=preferredColorScheme={0 if dark else 1}"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        asking.as_uri(),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    answer = re.search(r'<pre id="answer">(.*?)</pre>', ran.stdout, re.DOTALL)
    assert answer is not None, f"the page did not load: {ran.stdout[-500:]} {ran.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(html.unescape(answer[1]))
    found["console"] = [line for line in ran.stderr.splitlines() if ":CONSOLE" in line]
    return found
