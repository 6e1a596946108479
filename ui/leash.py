"""Runs a program for as long as whoever started this one lives: ``python leash.py SECONDS PROGRAM ARGUMENT...``.

The standard input is a pipe that its other end holds open.  It closes when that process ends, however it ends, on every
system; a signal at the parent's end is known to Linux alone, and goes by the thread that started the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(seconds: float, command: list[str]) -> None:
    """Run the command until it ends or the pipe closes; its output is ours.

    Args:
        seconds: for it to end when it is asked to.
    """
    # Ctrl+C reaches all programs of a terminal; this one is ended by the one that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.exit(f"cannot be started: {error.strerror}")

    def hold() -> None:
        sys.stdin.buffer.read()
        program.terminate()
        try:
            program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.kill()

    threading.Thread(target=hold, daemon=True).start()
    # Not sys.exit, which would wait for the thread that reads.
    os._exit(program.wait() & 0xFF)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
