"""The composition root: environment, wiring, and the program as a process of its own."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image

import app
from pipelines.events import Finished
from pipelines.images.uploads import UploadStore
from pipelines.jobs.users import OWNER
from pipelines.request import make_request
from pipelines.system import atomic_files
from tests.support.history_entries import keep
from tests.support.waiting import wait_for
from ui.server.command_line import parse

ROOT = Path(app.__file__).parent
# The first line appears once the libraries are imported, which takes long on a busy machine.
START_SECONDS = 300.0


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> dict[str, str]:
    return {"PLAYGROUND_MODEL": str(tiny_folder), "PLAYGROUND_DATA_DIR": str(tmp_path / "data")}


def test_the_hub_may_be_used_unless_offline(base: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "GRADIO_ANALYTICS_ENABLED", "DIFFUSERS_DISABLE_REMOTE_CODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    app.prepare_environment(parse([], base))
    assert "HF_HUB_OFFLINE" not in os.environ
    app.prepare_environment(parse(["--offline"], base))
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] == "1"


WITHOUT_NETWORK = """
import socket, sys, time
asked = []
def refuse(self, address):
    asked.append(address)
    raise OSError(101, "Network is unreachable")
def resolve(host, *more, **kinds):
    if host in ("127.0.0.1", "localhost"):
        return real(host, *more, **kinds)
    asked.append(host)
    raise socket.gaierror(-3, "Temporary failure in name resolution")
real, socket.getaddrinfo, socket.socket.connect = socket.getaddrinfo, resolve, refuse
import app
backend = app.create(app.parse(sys.argv[1:])).backend
from pipelines.request import make_request
card = backend._manager.cards["tiny"]
job = backend.submit(make_request(model=card.id, prompt="a fox", width=64, height=64, scheduler="euler", seed=1,
                                  num_inference_steps=2, guidance_scale=4.0))
print(type(list(job.events())[-1]).__name__, asked)
backend.close()
"""


def test_a_local_model_makes_no_request(base: dict[str, str], tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environ |= {**base, "PYTHONPATH": str(Path(app.__file__).parent), "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK], env=environ, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["Finished []"], done.stderr[-2000:]


def test_every_model_of_the_catalogue_is_known_and_none_is_downloaded(base: dict[str, str]) -> None:
    settings = parse(["--model", "owner/name"], base)
    assert {"sd15", "pocket", "owner/name"} <= {card.id for card in settings.cards}
    from pipelines.hub.hub import Hub

    (manager,) = app.create_managers(settings, Hub())
    assert manager.at_hand("owner/name") and manager.at_hand("pocket") and not manager.at_hand("sd15")


def test_two_workers_on_the_cpu_share_the_catalogue_and_what_they_remember(base: dict[str, str]) -> None:
    from pipelines.hub.hub import Hub

    first, second = app.create_managers(parse(["--devices", "cpux2"], base), Hub())
    assert (first.device, second.device) == ("cpu", "cpu")
    assert first.catalogue is second.catalogue and first.oom_fallback.notes is second.oom_fallback.notes
    assert first.loaded == second.loaded == ()


def test_uploads_unused_for_30_days_are_deleted_unless_an_entry_needs_them(
    base: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = UploadStore(tmp_path / "data" / "inputs")
    old, used, needed = (inputs.put(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue", "green"))
    for name, days in ((old, 31), (used, 29), (needed, 31)):
        os.utime(inputs.path(name), times=(time.time() - days * 86400,) * 2)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    program = app.create(parse([], base))
    keep(program.history, init={"image": needed, "strength": 0.5})
    wait_for(lambda: program.history.reconciler.progress.over)
    for clean in program.temp_files._also:
        clean()
    program.backend.close()
    program.history.close()
    assert inputs.path(used).exists() and inputs.path(needed).exists()
    assert not inputs.path(old).exists()


def test_what_is_made_is_in_the_history_and_survives_a_restart(
    base: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    program = app.create(parse([], base))
    request = make_request(
        model="tiny", prompt="a fox", width=64, height=64, scheduler="euler", seed=1, num_inference_steps=2,
        guidance_scale=4.0, num_images=2,
    )  # fmt: skip
    job = program.backend.submit(request)
    done = list(job.events())[-1]
    assert isinstance(done, Finished)
    program.backend.close()
    program.history.close()
    again = app.create(parse([], base))
    entries = again.history.catalogue.page(OWNER).entries
    assert [entry.id for entry in entries] == [picture.path.stem for picture in reversed(done.pictures)]
    found = again.history.detail(OWNER, entries[0].id)
    assert found is not None and found.request == request and found.entry.run == job.id
    assert found.facts["model"]["sha256"] and found.facts["libraries"]["diffusers"] and found.facts["engine"]
    assert str(tmp_path) not in str(found.facts)
    assert again.backend.trace(job.id) is not None and again.problems == ()
    again.backend.close()
    again.history.close()


def test_temporary_files_lie_in_a_folder_of_this_program_alone(
    base: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradio.utils import get_upload_folder

    monkeypatch.setattr(os, "environ", {name: text for name, text in os.environ.items() if name != "GRADIO_TEMP_DIR"})
    settings = parse([], base)
    program = app.create(settings)
    program.backend.close()
    # Guests may see its path, which must not say where the owner's files are.
    assert Path(get_upload_folder()) == program.temp_files.folder and not program.temp_files.folder.is_relative_to(
        tmp_path
    )
    assert program.temp_files.folder.stat().st_mode & 0o777 == 0o700
    assert atomic_files.is_scratch_folder(program.temp_files.folder) and not atomic_files.is_scratch_folder(tmp_path)
    path = program.temp_files.folder / "left" / "over.png"
    path.parent.mkdir()
    path.write_bytes(b"x")
    monkeypatch.setattr(program.temp_files, "_max_age", -1)
    program.temp_files.start()
    wait_for(lambda: not path.exists())
    program.temp_files.stop()


def get(address: str, port: int, path: str, host: str = "localhost") -> tuple[int, str]:
    connection = HTTPConnection(address, port, timeout=60)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace")


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as trial:
        trial.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize(
    ("host", "reached"),
    [("0.0.0.0", ("127.0.0.1",)), ("::1", ("::1",)), ("::", ("::1", "127.0.0.1"))],
)
def test_the_page_is_served_on_every_address_that_was_asked_for(
    base: dict[str, str], host: str, reached: tuple[str, ...]
) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    settings = parse(["--host", host], base)
    with gr.Blocks(analytics_enabled=False) as demo:
        gr.Markdown("The page")
    program: Any = SimpleNamespace(
        demo=demo, access=app.create_access(settings), history=None, temp_files=SimpleNamespace(start=lambda: None)
    )
    app.launch(settings, program)
    try:
        status = 401 if settings.auth else 200
        assert [get(address, settings.port, "/config")[0] for address in reached] == [status] * len(reached)
    finally:
        demo.close(verbose=False)
    with pytest.raises(OSError):
        get(reached[-1], settings.port, "/config")


class AppProcess:
    """app.py as a process of its own."""

    def __init__(self, *argv: str, environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "app.py", *argv],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._news: Queue[str | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.port = int(self.line(r"http://[^ ]*:(\d+)"))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._news.put(line)
        self._news.put(None)

    def line(self, pattern: str) -> str:
        """The first group of the pattern in what the server prints."""
        while True:
            for line in self.lines:
                if found := re.search(pattern, line):
                    return found.group(1)
            try:
                news = self._news.get(timeout=START_SECONDS)
            except Empty:
                news = None
            assert news is not None, f"no {pattern!r} in {self.lines}"
            self.lines.append(news)

    def get(self, path: str, host: str = "localhost") -> tuple[int, str]:
        return get("127.0.0.1", self.port, path, host)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def servers() -> Iterator[list[AppProcess]]:
    started: list[AppProcess] = []
    yield started
    for server in started:
        server.stop()


def test_the_server_answers_to_its_own_name_only(
    base: dict[str, str], servers: list[AppProcess], tmp_path: Path
) -> None:
    server = AppProcess(environ=base)
    servers.append(server)
    assert server.get("/")[0] == 200
    assert server.get("/", host=f"127.0.0.1:{server.port}")[0] == 200
    assert server.get("/", host="evil.example")[0] == 400
    (tmp_path / "data" / "secret.txt").write_text("no")
    assert server.get(f"/gradio_api/file={tmp_path}/data/secret.txt")[0] in (403, 404)
    assert server.get("/gradio_api/file=/etc/passwd")[0] in (403, 404)
    assert "password" not in "".join(server.lines)


def test_beyond_loopback_a_password_is_asked_for_and_printed_once(
    base: dict[str, str], servers: list[AppProcess], tmp_path: Path
) -> None:
    """So is why a graphics card is not used: the PyTorch of the tests is one without CUDA."""
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 3050, 8192, 581.29, 8.6'\n")
    driver.chmod(0o755)
    path = f"{driver.parent}{os.pathsep}{os.environ['PATH']}"
    server = AppProcess("--host", "::" if has_ipv6() else "0.0.0.0", environ={**base, "PATH": path})
    servers.append(server)
    password = server.line(r"Guests sign in with the password (\S+)")
    for address in ("::1", "127.0.0.1") if has_ipv6() else ("127.0.0.1",):
        assert get(address, server.port, "/config", host="any.name")[0] == 401
    assert "".join(server.lines).count(password) == 1
    if not torch.cuda.is_available():
        assert server.line(r"^(NVIDIA GeForce RTX 3050 is not used): .* make run TORCH=cu130\.$")


@pytest.mark.parametrize("name", ["running.json", "owner.key"])
def test_a_file_that_cannot_be_used_is_one_sentence(
    base: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(base["PLAYGROUND_DATA_DIR"]) / name).mkdir(parents=True)
    for key, value in base.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(app.signal, "signal", lambda *given: None)
    monkeypatch.setattr(app.malloc, "limit_arenas", lambda: None)
    monkeypatch.setattr(app, "create", lambda settings, **more: app.create_access(settings))
    with pytest.raises(SystemExit) as ended:
        app.main([])
    text = str(ended.value)
    assert name in text and "--data-dir" in text and "\n" not in text


def test_a_full_disk_at_the_start_is_one_sentence(base: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for key, value in base.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(app.signal, "signal", lambda *given: None)
    monkeypatch.setattr(app.malloc, "limit_arenas", lambda: None)
    for place in ("lock_folder", "create"):
        with monkeypatch.context() as patch:
            patch.setattr(app, place, full)
            with pytest.raises(SystemExit, match="No space left on device.*make room"):
                app.main([])


def test_a_terminal_without_unicode_shows_every_name() -> None:
    code = (
        "import app, sys; app.new_link_folder = lambda argv: 'x'; "
        "app.print_new_link = lambda folder: print('caf\\ufffd \\u65e5'); app.main([])"
    )
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip() == b"caf? ?", done.stderr


def test_a_second_start_ends_and_a_new_link_is_printed_while_the_first_runs(
    base: dict[str, str], servers: list[AppProcess], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_INET6) as free:
        free.bind(("::1", 0))
        port = str(free.getsockname()[1])
    server = AppProcess("--host", "::1", "--port", port, environ=base)
    servers.append(server)
    link = server.line(r"http://(\[::1\]:\d+/\?owner=\S+)")

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, **base}
        command = [sys.executable, "app.py", *argv]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)

    second = run()
    assert second.returncode == 1 and second.stdout == "" and second.stderr.count("\n") == 1
    assert f"http://[::1]:{server.port}/ (process {server.process.pid})" in second.stderr
    printed = run("--new-link", "--port", str(server.port)).stdout.split()
    assert len(printed) == 1 and printed[0].startswith(f"http://[::1]:{server.port}/?owner=") and link not in printed[0]
    connection = HTTPConnection("::1", server.port, timeout=60)
    connection.request("GET", printed[0].partition(f":{server.port}")[2])
    answer = connection.getresponse()
    assert answer.status == 303 and "playground-owner" in answer.headers["set-cookie"]
    server.process.kill()
    server.process.wait(60)
    assert "No program runs" in run("--new-link").stderr
