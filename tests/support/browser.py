"""Debian's Chromium without a window, as a user sits before it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from playwright.sync_api import FrameLocator, Page, expect, sync_playwright

from tests.support.processes import StartError
from tests.support.repository import ROOT

SCREENSHOTS = ROOT / "build" / "screenshots"
WAIT_MS = 300_000
"""For anything that is waited for: the machine may be busy with other tests."""
expect.set_options(timeout=WAIT_MS)


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of a new browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise StartError("chromium is not installed: see dev/system_packages.sh")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[*sandbox, "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 1000}, color_scheme="light")
            page.set_default_timeout(WAIT_MS)
            yield page
        finally:
            browser.close()


def migration_tab(page: Page, url: str, dag_id: str, run_id: str) -> FrameLocator:
    """Open a run of the Airflow at this URL, and its tab Migration."""
    page.goto(f"{url}/dags/{dag_id}/runs/{quote(run_id, safe='')}")
    page.get_by_role("link", name="Migration", exact=True).click()
    return page.frame_locator("iframe[title='Migration']")


def screenshot(page: Page, name: str) -> None:
    """Keep what the page looks like, for people."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
