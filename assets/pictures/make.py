"""Takes the README's pictures from the running explorer: ``.venv/bin/python assets/pictures/make.py [NAME ...]``.

Overview is seen while its budget moves, My text with its map, Compare with its ranking, the board of the language
model, a text that it continues, and two steps of Learn; each by day and by night. It starts an explorer of its own,
whose results are the bundled ones, and needs Chromium (``make chromium``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from socket import create_connection, socket

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCHEMES = ("light", "dark")
#: Pixels of the browser's window, and of the widest picture that is written.
WINDOW = {"width": 1280, "height": 1400}
WIDTH = 760
#: Heads that are kept while the budget moves, and how long each of these is seen, in milliseconds.
BUDGETS = (13, 10, 8, 6, 10, 20, 30, 20)
EACH = 500
#: The page when its script has run to its end.
DRAWN = "[data-testid=stApp][data-test-script-state=notRunning]"


@contextmanager
def explorer() -> Iterator[str]:
    """Address of an explorer that stops with the context."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "cahp", "explore", "--no-token", "--no-browser", "--port", str(port))
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}) as process:
        try:
            for _ in range(600):
                try:
                    create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def opened(browser: Browser, url: str, scheme: str) -> Page:
    """The page at ``url``, when its script has run to its end."""
    page = browser.new_context(viewport=WINDOW, color_scheme=scheme, reduced_motion="reduce").new_page()
    page.set_default_timeout(120_000)
    expect.set_options(timeout=120_000)
    page.goto(url)
    page.wait_for_selector(DRAWN)
    return page


def picture(part: Locator) -> Image.Image:
    """What ``part`` of the page looks like, at most ``WIDTH`` pixels wide."""
    image = Image.open(BytesIO(part.screenshot(animations="disabled"))).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    return image


def board(browser: Browser, url: str, scheme: str) -> None:
    """Overview as its budget moves over bundled ones, and then a person looks at a head."""
    page = opened(browser, url, scheme)
    slider = page.get_by_role("slider", name="Heads to keep")
    expect(slider).to_be_visible()
    part = page.locator(".st-key-first-picture")
    frames = []
    for budget in BUDGETS:
        slider.evaluate(
            "(slider, value) => { slider.value = value; for (const kind of ['input', 'change'])"
            " slider.dispatchEvent(new Event(kind, { bubbles: true })); }",
            str(budget),
        )
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"{budget} of 72 heads")
        # The title follows the slider; all else waits for the server.
        page.wait_for_url(f"**budget={budget}*")
        page.wait_for_selector(DRAWN)
        page.wait_for_timeout(500)
        frames.append(picture(part))
    page.get_by_role("gridcell").nth(24).click()
    frames.append(picture(part))
    # A line more or less at the end of the page.
    height = min(frame.height for frame in frames)
    first, *others = (frame.crop((0, 0, frame.width, height)) for frame in frames)
    first.save(
        HERE / f"board-{scheme}.webp", save_all=True, append_images=others, duration=EACH, loop=0, quality=40, method=6
    )


def graph(browser: Browser, url: str, scheme: str) -> None:
    """The map of what heads do with the first example text."""
    page = opened(browser, f"{url}/Similarity", scheme)
    expect(page.locator(".head-map .panel h3")).to_be_visible()
    page.wait_for_timeout(2_000)  # until all heads are in place
    part = page.locator(".st-key-similarity-map")
    picture(part).save(HERE / f"graph-{scheme}.webp", quality=70, method=6)


def compare(browser: Browser, url: str, scheme: str) -> None:
    """The methods of the bundled comparison, ranked at 12 heads."""
    page = opened(browser, f"{url}/Compare?at=12", scheme)
    part = page.locator(".st-key-figure-compare-ranking")
    expect(part.locator(".js-plotly-plot")).to_be_visible()
    picture(part).save(HERE / f"compare-{scheme}.webp", quality=60, method=6)


def language_model(browser: Browser, url: str, scheme: str) -> None:
    """The board of the bundled language model."""
    page = opened(browser, f"{url}/Budget?model=smollm2", scheme)
    part = page.locator(".cahp-board").first
    expect(part).to_be_visible()
    picture(part).save(HERE / f"language-model-{scheme}.webp", quality=60, method=6)


def continuation(browser: Browser, url: str, scheme: str) -> None:
    """The example of the first screen, continued by the full and by the refitted language model."""
    part = opened(browser, f"{url}/?model=smollm2", scheme).locator(".st-key-continuations")
    expect(part.locator(".continued")).to_have_count(2)
    picture(part).save(HERE / f"continuation-{scheme}.webp", quality=50, method=6)


def learn(browser: Browser, url: str, scheme: str) -> None:
    """The head of the first step of Learn on its sentence, and its family of which one head stays."""
    page = opened(browser, f"{url}/Learn", scheme)
    part = page.locator(".st-key-learn-step")
    expect(part.locator(".arc.seen")).to_have_count(7)
    picture(part).save(HERE / f"learn-{scheme}.webp", quality=60, method=6)
    page.goto(f"{url}/Learn?step=3&guesses=,1,6")
    expect(part.locator(".cell.off")).to_have_count(8)
    page.wait_for_selector(DRAWN)
    picture(part).save(HERE / f"learn-family-{scheme}.webp", quality=60, method=6)


def main(*names: str) -> None:
    """Takes the pictures that the functions with these names take, or all of them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with explorer() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in SCHEMES:
            for take in (board, graph, compare, language_model, continuation, learn):
                if not names or take.__name__ in names:
                    take(browser, url, scheme)
        browser.close()
    for file in sorted(HERE.glob("*.webp")):
        sys.stdout.write(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
