"""The HTML report in a browser: it says nothing and asks for nothing."""

import json
import shutil
import subprocess

import pytest
from made_reports import full_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)}"
    ),
]

TALKATIVE = """<!doctype html><meta charset="utf-8"><title>x</title>
<p>x<img src="http://example.invalid/x.png">
<script>console.error("spoken")</script>
"""


def visit(page, folder, *options):
    """Open a page; return what it said, what it asked for, and its picture."""
    log, picture = folder / "net.json", folder / "page.png"
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            f"--screenshot={picture}",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    events = [
        e.get("params", {}) for e in json.loads(log.read_text())["events"]
    ]
    # What the browser asks for by itself comes from no origin.
    asked = {
        params["url"]
        for params in events
        if params.get("initiator", "not an origin") != "not an origin"
        and not params["url"].startswith(("file:", "data:"))
    }
    return said, asked, picture.read_bytes()


def test_page_neither_speaks_nor_asks(rng, tmp_path):
    page = tmp_path / "report.html"
    hostile = "<img src=http://example.invalid/x.png onerror=alert(1)>"
    full_report(rng, name=hostile, message=hostile).to_html(
        page, class_names=[hostile] * 3
    )
    said, asked, light = visit(page, tmp_path)
    assert said == []
    assert asked == set()
    _, _, dark = visit(
        page, tmp_path, "--blink-settings=preferredColorScheme=0"
    )
    assert light != dark


def test_a_page_that_does_both_is_noticed(tmp_path):
    page = tmp_path / "talkative.html"
    page.write_text(TALKATIVE)
    said, asked, _ = visit(page, tmp_path)
    assert any("spoken" in line for line in said)
    assert asked == {"http://example.invalid/x.png"}
