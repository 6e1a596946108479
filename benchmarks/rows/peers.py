"""What a user would otherwise run: a bare diffusers script, and the usual Gradio demo around ``pipe()``.

Each runs in a process of its own, from source text: nothing here may import Gradio.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

from benchmarks.running_program import START_SECONDS, free_port

# The scheduler is the playground's, so that both do the same work.
_PIPE = """
import sys, torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
source, prompt, width, height, steps, guidance, threads = {settings!r}
torch.set_num_threads(threads)
pipe = StableDiffusionPipeline.from_pretrained(source, use_safetensors=True)
pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)

def draw(prompt, **more):
    more |= {{"width": width, "height": height, "num_inference_steps": steps, "guidance_scale": guidance}}
    return pipe(prompt, **more).images[0]
"""
# Prints after the picture how much memory it takes; then waits, for the caller to end it.
_SCRIPT = """
draw(prompt).save({picture!r})
print("done", flush=True)
sys.stdin.read()
"""
_DEMO = """
import threading, queue
import gradio as gr

def plain(prompt):
    return draw(prompt)

def with_preview(prompt):
    # The usual way: decode at each step's end, and show it.
    frames = queue.Queue()

    def look(pipe, step, timestep, values):
        with torch.no_grad():
            pixels = pipe.vae.decode(values["latents"] / pipe.vae.config.scaling_factor, return_dict=False)[0]
        frames.put(pipe.image_processor.postprocess(pixels)[0])
        return values

    def work():
        frames.put(draw(prompt, callback_on_step_end=look))
        frames.put(None)

    threading.Thread(target=work).start()
    while (frame := frames.get()) is not None:
        yield frame

with gr.Blocks() as demo:
    asked, shown = gr.Textbox(), gr.Image()
    asked.submit(plain, asked, shown, api_name="plain")
    asked.change(with_preview, asked, shown, api_name="with_preview")
demo.queue().launch(server_port={port}, quiet=True, prevent_thread_lock=True)
print("serving", flush=True)
sys.stdin.read()
"""


def settings(card: Any, steps: int) -> tuple[Any, ...]:
    """What the peers' source text needs."""
    from pipelines.jobs.local import default_threads
    from pipelines.system.paths import PROJECT

    guidance = card.guidance_scale
    return (
        str(PROJECT / card.source), card.prompts[0], card.width, card.height, steps, guidance, default_threads()
    )  # fmt: skip


@contextmanager
def bare_script(card: Any, steps: int, picture: str) -> Iterator[tuple[int, float]]:
    """A script that imports, loads and draws: its process, and the seconds until its picture is stored."""
    text = _PIPE.format(settings=settings(card, steps)) + _SCRIPT.format(picture=picture)
    started = time.perf_counter()
    with _python(text, "done") as process:
        yield process.pid, time.perf_counter() - started


@contextmanager
def demo(card: Any, steps: int) -> Iterator[DemoClient]:
    """The usual Gradio demo, and a client of it on one open connection."""
    port = free_port()
    # The text holds braces of its own, so the port is put in by itself.
    text = _PIPE.format(settings=settings(card, steps)) + _DEMO.replace("{port}", str(port))
    with _python(text, "serving"):
        yield DemoClient(port)


@contextmanager
def _python(text: str, ready: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        [sys.executable, "-c", text], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        while (line := process.stdout.readline()) and ready not in line:
            pass
        if not line:
            raise RuntimeError(f"The peer ended with {process.wait(START_SECONDS)}")
        yield process
    finally:
        process.kill()
        process.communicate()


class DemoClient:
    """Calls endpoints over plain HTTP, all on one open connection.

    Args:
        port: on this computer.
        cookie: of a program that asks for one.
    """

    def __init__(self, port: int, cookie: str = "") -> None:
        self._http = HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        self._headers = {"Cookie": cookie} if cookie else {}

    def call(self, name: str, data: list[Any]) -> Any:
        """The result of an endpoint; raises RuntimeError if it has none."""
        path, headers = f"/gradio_api/call/{name}", {**self._headers, "Content-Type": "application/json"}
        body = json.dumps({"data": data})
        try:
            event = self._join(path, body, headers)
        except (ConnectionError, HTTPException):  # a server closes a connection that is idle for some seconds
            self._http.close()
            event = self._join(path, body, headers)
        self._http.request("GET", f"{path}/{event}", headers=self._headers)
        answer = self._http.getresponse()
        kind = ""
        for line in iter(answer.readline, b""):
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: ") and kind in ("complete", "error"):
                found = json.loads(line[6:])
                answer.read()
                if kind == "error":
                    raise RuntimeError(f"{name} failed: {found}")
                return found
        raise RuntimeError(f"{name} has no answer")

    def _join(self, path: str, body: str, headers: dict[str, str]) -> str:
        self._http.request("POST", path, body, headers)
        return str(json.loads(self._http.getresponse().read())["event_id"])
