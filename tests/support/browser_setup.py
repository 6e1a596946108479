"""Finds a browser for the tests, or gets one; run by ``make test`` before the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# The shell without windows comes first: its pages cost a third less.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium-headless-shell", "chromium")
ADVICE = "There is no browser for the tests and none could be installed; run: sudo apt-get install -y chromium"


def find_browser() -> str | None:
    """Path of a Chromium that can be started: the system's, else the test tool's own download."""
    for name in NAMES:
        path = shutil.which(name)
        if path and _starts(path):
            return path
    path = _downloaded()
    return path if path and _starts(path) else None


def launch_arguments() -> list[str]:
    """Switches that keep the browser quiet and let it run as root, as it does on build machines."""
    quiet = [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        # The next page begins in the process of the last one, which has its scripts compiled.
        "--process-per-site",
    ]
    return [*quiet, "--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else quiet


def _starts(path: str) -> bool:
    # Ubuntu's chromium package without snap is a script that only complains.
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _downloaded() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        path = tool.chromium.executable_path
    return path if Path(path).exists() else None


def _apt() -> bool:
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if not _runs(["apt-get", "update", "-qq"], env):
        return False
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    return any(_runs([*install, package], env) for package in PACKAGES)


def _runs(command: list[str], env: dict[str, str]) -> bool:
    return subprocess.run(command, env=env, stdout=subprocess.DEVNULL).returncode == 0


def _download() -> bool:
    return subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode == 0


def main() -> None:
    """Make sure that there is a browser, or stop with the line that installs one."""
    for get in (None, _apt, _download):
        if get is not None:
            print("There is no browser for the tests yet; getting Chromium ...", flush=True)
            get()
        if find_browser():
            return
    sys.exit(ADVICE)


if __name__ == "__main__":
    main()
