"""Run a program for as long as the parent process lives: ``python parent_watchdog.py SECONDS PROGRAM ARGUMENT...``.

The parent holds the other end of the standard input open.  That pipe closes on every system when the parent ends, even
by a kill; a signal at the parent's end exists on Linux alone, and depends on the thread that started the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(seconds: float, command: list[str]) -> None:
    """Run the command until it ends or standard input closes; it inherits this process's output.

    Args:
        seconds: from asking the command to end until it is killed.
    """
    # Ctrl+C reaches all processes of a terminal; this one ends when its parent does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.exit(f"cannot be started: {error.strerror}")

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        program.terminate()
        try:
            program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.kill()

    threading.Thread(target=end_with_parent, daemon=True).start()
    # sys.exit would wait for the thread that reads.
    os._exit(program.wait() & 0xFF)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
