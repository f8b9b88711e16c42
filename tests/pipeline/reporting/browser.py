"""Pages in headless Chromium: how wide they are, what they say on the console, what can be read."""

import json
import re
import shutil
import subprocess
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    # The page in a frame of the page that measures it.
    "--allow-file-access-from-files",
)
DARK = "--blink-settings=preferredColorScheme=0"
_SECONDS = 120

# What is measured of a page: `measure` takes whatever has its document and its window.
SCRIPT = """
const numbers = text => text.match(/[\\d.]+(e-?\\d+)?/g).map(Number);
function colour(text) {
  const found = numbers(text.replace(/^color\\(srgb/, "")), scale = text.startsWith("color(") ? 255 : 1;
  return [...found.slice(0, 3).map(value => value * scale), found.length > 3 ? found[3] : 1];
}
const over = (top, below) => below.map((value, at) => at < 3 ? top[at] * top[3] + value * (1 - top[3]) : 1);
function luminance(rgb) {
  const [r, g, b] = rgb.slice(0, 3).map(value => value / 255).map(
    value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(element, window) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(colour(window.getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
}
function measure(frame) {
  const { contentDocument: page, contentWindow: window } = frame, faint = [];
  page.querySelectorAll("details").forEach(own => { own.open = true; });
  let texts = 0;
  for (const element of page.body.querySelectorAll("*")) {
    const own = [...element.childNodes].filter(node => node.nodeType === 3 && node.data.trim());
    if (!own.length || !element.getClientRects().length || element.tagName === "TITLE" || element.tagName === "title") continue;
    texts += 1;
    const style = window.getComputedStyle(element), back = behind(element, window);
    const front = over(colour(element.closest("svg") ? style.fill : style.color), back);
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 600);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < (large ? 3 : 4.5)) faint.push([own[0].data.trim().slice(0, 40), contrast]);
  }
  const root = page.documentElement;
  return { width: root.scrollWidth, window: root.clientWidth, height: root.scrollHeight, texts, faint,
           paper: luminance(behind(page.body, window)) };
}
"""

# A window cannot be as narrow as a telephone, a frame can.
_MEASURE = (
    """<!DOCTYPE html><meta charset="utf-8"><title>-</title><body>%s<script>"""
    + SCRIPT.replace("%", "%%")
    + """addEventListener("load", () => {
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(measure));
});
</script>"""
)


def program() -> str | None:
    """Returns where Chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [program(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
    )


def console(page: Path, folder: Path) -> list[str]:
    """Returns what a page makes the browser say, such as what its policy forbids."""
    done = _run(folder, "--dump-dom", page.as_uri())
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def measure(page: Path, widths: tuple[int, ...], folder: Path, dark: bool = False) -> list[dict]:
    """Returns what a page is like in windows of these widths, with everything unfolded.

    Args:
        page: The file.
        widths: In CSS pixels.
        folder: Receives what the browser writes.
        dark: Whether the person prefers dark pages.

    Returns:
        For each width: `width` of the content and of the `window`, `height`, `paper` (the
        luminance of the background, 0 to 1), the number of `texts`, and the `faint` ones with
        their contrast, below what WCAG 2.1 asks for at level AA.
    """
    frames = "".join(
        f'<iframe src="{page.as_uri()}" style="width:{width}px;height:800px"></iframe>'
        for width in widths
    )
    outer = folder / "measure.html"
    outer.write_text(_MEASURE % frames)
    done = _run(folder, *([DARK] if dark else []), "--dump-dom", outer.as_uri())
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[:1]
    return json.loads(title)


def screenshot(page: Path, width: int, height: int, folder: Path, dark: bool = False) -> Path:
    """Returns a PNG of the top of a page."""
    picture = folder / f"{'dark' if dark else 'light'}.png"
    size = (f"--window-size={width},{height}", f"--screenshot={picture}")
    _run(folder, *([DARK] if dark else []), *size, page.as_uri())
    return picture
