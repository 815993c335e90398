"""A page opened in headless Chromium: what it asks the network for, what it logs, what it shows."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-extensions", "--no-default-browser-check"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND"]  # nothing leaves this machine, the browser's own calls neither


@dataclass(frozen=True)
class Opened:
    dom: str
    requests: list[str]
    console: list[str]

    def texts(self, tag: str) -> list[str]:
        """The text of every element of a kind, without marks."""
        found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", self.dom, re.DOTALL)
        return [html.unescape(re.sub(r"<[^>]+>", "", one)).strip() for one in found]


def opened(page: Path, folder: Path, width: int = 1100) -> Opened:
    """Open a page; the test is skipped where there is no Chromium."""
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if browser is None:
        pytest.skip("no Chromium on this machine")
    log = folder / "net.json"
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command += [
        f"--window-size={width},900",
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=4000",
        "--dump-dom",
    ]
    environment = {**os.environ, "HOME": str(folder)}
    run = subprocess.run(
        [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=180, check=False, env=environment
    )
    if not run.stdout.strip():
        pytest.skip(f"Chromium does not run here: {run.stderr.strip().splitlines()[-1:]}")
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    return Opened(run.stdout, _requests(log), console)


def _requests(log: Path) -> list[str]:
    """Every address that the page asked for, from the browser's log of its network; its own calls have no origin."""
    text = log.read_text()
    try:
        events: list[dict[str, Any]] = json.loads(text)["events"]
    except ValueError:  # the browser was ended before it closed the list
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    addresses = [str(one.get("url", "")) for one in asked if one["initiator"] != "not an origin"]
    return sorted({url for url in addresses if urllib.parse.urlsplit(url).scheme in ("http", "https", "ws", "wss")})
