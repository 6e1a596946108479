"""Stands in for the tunnel's program: prints its start-up lines correctly, wrongly, or not at all.

python tunnel_program.py MODE http -n TOKEN -l PORT ...
"""

from __future__ import annotations

import sys
import time

mode = sys.argv[1]
if mode == "good":
    print("2026/01/01 [I] [service.go:301] login to server success", flush=True)
    print("2026/01/01 [I] [control.go:172] start proxy success: https://abc123.gradio.live", flush=True)
elif mode == "chatty":
    for k in range(3000):
        print(f"line {k} " + "x" * 500, flush=True)
    print("start proxy success: https://abc123.gradio.live", flush=True)
    for k in range(3000):
        print(f"line {k} " + "x" * 500, flush=True)
elif mode == "refused":
    print("2026/01/01 [W] login to server failed: token is wrong", flush=True)
elif mode == "strange":
    print("start proxy success: javascript:alert(1)", flush=True)
    print("start proxy success: https://evil.example/<script>", flush=True)
elif mode == "dies":
    sys.exit(3)
elif mode == "stubborn":
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("start proxy success: https://abc123.gradio.live", flush=True)
time.sleep(120)
