"""The built site: nothing comes from elsewhere, and its formulas are drawn."""

import http.server
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(str(page.relative_to(SITE)) for page in SITE.rglob("*.html"))
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not PAGES, reason="the site is not built: nox -s docs builds it")


class Loaded(HTMLParser):
    """The addresses that a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses.append(attributes.get("src") or "")
        if tag == "link" and attributes.get("rel") != "canonical":
            self.addresses.append(attributes.get("href") or "")


def from_elsewhere(address):
    return re.match(r"(\w+:)?//", address) is not None


def loaded_by(page):
    reader = Loaded()
    reader.feed((SITE / page).read_text("utf-8"))
    return reader.addresses


@pytest.mark.parametrize("page", PAGES)
def test_a_page_and_its_style_sheets_name_nothing_to_load_from_elsewhere(page):
    named = loaded_by(page)
    folders = {True: SITE, False: (SITE / page).parent}
    sheets = {folders[a.startswith("/")] / a.split("?")[0].lstrip("/") for a in named if a.endswith(".css")}
    assert len(sheets) >= 4
    for sheet in sheets:
        named += re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", sheet.read_text("utf-8"))
    assert [a for a in named if from_elsewhere(a)] == []


def test_blocks_of_code_were_run():
    home = (SITE / "index.html").read_text("utf-8")
    assert "-mean(E_q(z|x)[log p(x,z)/q(z|x)])" in home
    assert "data:image/png;base64," in home


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here to look at the pages with")
@pytest.mark.parametrize("page", ["index.html", "objectives.html", "api/distributions.html", "api/losses.html"])
def test_formulas_are_drawn_and_nothing_is_fetched_from_elsewhere(page, address, tmp_path):
    log = tmp_path / "net.json"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    options += [f"--user-data-dir={tmp_path}", f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom"]
    drawn = subprocess.run([BROWSER, *options, f"{address}/{page}"], capture_output=True, text=True, timeout=120, check=True).stdout
    written = (SITE / page).read_text("utf-8").count('class="arithmatex"')
    assert written > 0
    assert drawn.count('class="katex"') == written
    assert "katex-error" not in drawn

    events = json.loads(log.read_text("utf-8"))["events"]
    requests = [e["params"] for e in events if "url" in e.get("params", {})]
    ours = [r["url"] for r in requests if str(r.get("initiator", "")).startswith(address)]
    assert any("katex" in url for url in ours)
    assert [url for url in ours if not url.startswith((address, "data:"))] == []
