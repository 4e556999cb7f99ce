"""A real Chromium, where there is one, and tabs that note every request and what is said on the console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
MISSING = "needs Debian's Chromium: apt install chromium"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(MISSING)
    api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page that was opened; ``noted`` is what must stay empty."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        options.setdefault("viewport", {"width": 1200, "height": 900})
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.noted: list[str] = []
        self.page.on("console", lambda message: self.noted.append(message.text))
        self.page.on("pageerror", lambda error: self.noted.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url, path))
        self.page.goto(path.as_uri(), wait_until="load")

    def _request(self, url: str, path: Path) -> None:
        if url != path.as_uri() and not url.startswith("data:"):
            self.noted.append(url)


Open = Callable[..., Tab]


@pytest.fixture
def opened(chromium: Any) -> Iterator[Open]:
    tabs: list[Tab] = []

    def open_(path: Path, **options: Any) -> Tab:
        tabs.append(Tab(chromium, path, **options))
        return tabs[-1]

    yield open_
    for tab in tabs:
        tab.context.close()
