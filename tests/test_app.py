"""The composition root: settings from the command line and the environment, and a server that is careful."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from queue import Empty, Queue

import pytest
from PIL import Image

import app
from pipelines import files
from pipelines.device import resolve
from pipelines.uploads import Inputs
from tests.tiny import make_tiny_model

ROOT = Path(app.__file__).parent
# The server's first line comes after its libraries are imported, which takes long on a busy machine.
START = 120.0


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> dict[str, str]:
    return {"PLAYGROUND_MODEL": str(tiny_folder), "PLAYGROUND_DATA_DIR": str(tmp_path / "data")}


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], environ: Mapping[str, str]) -> str:
    with pytest.raises(SystemExit) as caught:
        app.parse(argv, environ)
    out = capsys.readouterr()
    assert caught.value.code == 2
    assert out.out == ""
    assert out.err.count("\n") == 1
    return out.err


def test_defaults(base: dict[str, str], tiny_folder: Path) -> None:
    settings = app.parse([], base)
    assert settings.host == "127.0.0.1"
    assert app.FIRST_PORT <= settings.port < app.FIRST_PORT + app.TRY_PORTS
    assert (settings.device, settings.attention) == ("auto", {"": "auto"})
    assert (settings.ladder, settings.compile, settings.quantize, settings.offline) == (True, False, "", False)
    assert settings.engine == "auto"
    assert settings.auth is None
    assert not settings.share
    assert not settings.open
    assert settings.model.source == str(tiny_folder)
    assert settings.model in settings.cards
    assert settings.pictures_dir.is_dir()


def test_the_command_line_goes_before_the_environment(base: dict[str, str]) -> None:
    environ = {**base, "PLAYGROUND_DEVICE": "mps", "PLAYGROUND_OPEN": "yes", "PLAYGROUND_AUTH": "a:b"}
    assert app.parse([], environ).device == "mps"
    assert app.parse([], environ).open
    assert app.parse([], environ).auth == ("a", "b")
    settings = app.parse(["--device", "cpu", "--no-open", "--auth", "anna:x:y"], environ)
    assert settings.device == "cpu"
    assert not settings.open
    assert settings.auth == ("anna", "x:y")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--port", "0"], "'0' is not a whole number from 1 to 65535"),
        (["--port", "70000"], "from 1 to 65535"),
        (["--port", "²"], "from 1 to 65535"),
        (["--device", "tpu"], "'tpu'"),
        (["--attention", "flash"], "'flash'"),
        (["--engine", "steam"], "'steam'"),
        (["--model", "no such model"], "There is no model 'no such model'"),
        (["--host", "no.such.host.invalid"], "unknown here"),
        (["--host", "192.0.2.1", "--port", "7860"], "cannot be used"),
        (["--data-dir", "/dev/null/x"], "cannot be used"),
        (["--magic"], "--magic"),
        (["--por", "7860"], "--por"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    capsys: pytest.CaptureFixture[str], base: dict[str, str], argv: list[str], words: str
) -> None:
    assert words in refused(capsys, argv, base)


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "x"), ("SHARE", "maybe"), ("DEVICE", "tpu"), ("AUTH", "nocolon"), ("THREADS", "-1")]
)
def test_a_wrong_variable_is_named(
    capsys: pytest.CaptureFixture[str], base: dict[str, str], name: str, value: str
) -> None:
    assert refused(capsys, [], {**base, f"PLAYGROUND_{name}": value}).startswith(f"PLAYGROUND_{name}: ")


def test_a_wrong_password_is_not_repeated(capsys: pytest.CaptureFixture[str], base: dict[str, str]) -> None:
    assert "hunter2" not in refused(capsys, ["--auth", "hunter2"], base)


def test_a_port_in_use_is_named_and_the_default_moves_on(
    capsys: pytest.CaptureFixture[str], base: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "choose another with --port" in refused(capsys, ["--port", str(port)], base)
        monkeypatch.setattr(app, "FIRST_PORT", port)
        assert app.parse([], base).port > port


@pytest.mark.parametrize("argv", [["--share"], ["--host", "0.0.0.0"], ["--host", "::"]])
def test_whoever_is_exposed_gets_a_password(base: dict[str, str], argv: list[str]) -> None:
    first, second = app.parse(argv, base), app.parse(argv, base)
    assert first.generated
    assert first.auth is not None
    assert second.auth is not None
    assert len(first.auth[1]) >= 12
    assert first.auth != second.auth
    assert app.parse([*argv, "--auth", "a:b"], base).auth == ("a", "b")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_needs_no_password(host: str) -> None:
    assert app.is_loopback(host)


def test_the_hub_is_asked_unless_nobody_may_be(base: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "GRADIO_ANALYTICS_ENABLED", "DIFFUSERS_DISABLE_REMOTE_CODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    app.prepare_environment(app.parse([], base))
    assert "HF_HUB_OFFLINE" not in os.environ
    app.prepare_environment(app.parse(["--offline"], base))
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] == "1"


LONELY = """
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


def test_a_model_of_this_machine_asks_nobody(base: dict[str, str], tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environ |= {**base, "PYTHONPATH": str(Path(app.__file__).parent), "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LONELY], env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["Finished []"], done.stderr[-2000:]


def test_a_folder_of_models_is_offered_and_what_is_broken_in_it_is_said(
    base: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_model(tmp_path / "models" / "mine")
    (tmp_path / "models" / "half.safetensors").write_bytes(b"nothing")
    found = app.parse(["--models-dir", str(tmp_path / "models"), "--model", "mine"], base)
    assert found.model.id == "mine" and {card.id for card in found.cards} >= {"mine", "pocket"}
    assert len(found.problems) == 1 and "half.safetensors" in found.problems[0]
    capsys.readouterr()  # the model's own progress bars
    assert "nowhere" in refused(capsys, ["--models-dir", str(tmp_path / "nowhere")], base)


def test_every_model_of_the_catalogue_is_known_and_none_is_fetched_for_it(base: dict[str, str]) -> None:
    settings = app.parse(["--model", "owner/name"], base)
    assert {"sd15", "pocket", "owner/name"} <= {card.id for card in settings.cards}
    from pipelines.hub import Hub

    manager = app._manager(settings, Hub())
    assert manager.at_hand("owner/name") and manager.at_hand("pocket") and not manager.at_hand("sd15")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("sdpa", {"": "sdpa"}),
        ("sdxl=xformers", {"": "auto", "sdxl": "xformers"}),
        ("xformers,owner/name=sdpa", {"": "xformers", "owner/name": "sdpa"}),
    ],
)
def test_attention_is_chosen_for_all_models_or_some(base: dict[str, str], text: str, chosen: dict[str, str]) -> None:
    assert app.parse(["--attention", text], base).attention == chosen


def test_xformers_without_a_gpu_is_one_sentence() -> None:
    placement = resolve("cpu", "xformers")
    assert placement.attention == "sdpa"
    assert placement.note == "xformers needs an NVIDIA GPU, so SDPA is used instead."


def test_uploads_that_nobody_used_for_30_days_go_at_the_start(
    base: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = Inputs(tmp_path / "data" / "inputs")
    old, used = (inputs.put(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue"))
    for name, days in ((old, 31), (used, 29)):
        os.utime(inputs.path(name), times=(time.time() - days * 86400,) * 2)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    app.create(app.parse([], base)).backend.close()
    assert inputs.path(used).exists()
    assert not inputs.path(old).exists()


def test_temporary_files_lie_in_a_folder_of_this_program_alone(
    base: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradio.utils import get_upload_folder

    monkeypatch.setattr(os, "environ", {name: text for name, text in os.environ.items() if name != "GRADIO_TEMP_DIR"})
    settings = app.parse([], base)
    program = app.create(settings)
    program.backend.close()
    # Its name is told to guests: it says nothing of where the owner's files are.
    assert Path(get_upload_folder()) == program.cache.folder and not program.cache.folder.is_relative_to(tmp_path)
    assert program.cache.folder.stat().st_mode & 0o777 == 0o700
    assert files.is_scratch(program.cache.folder) and not files.is_scratch(tmp_path)
    path = program.cache.folder / "left" / "over.png"
    path.parent.mkdir()
    path.write_bytes(b"x")
    monkeypatch.setattr(program.cache, "_keep", -1)
    program.cache.start()
    end = time.monotonic() + 30
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    program.cache.stop()
    assert not path.exists()


class Server:
    """app.py in a process of its own."""

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
                news = self._news.get(timeout=START)
            except Empty:
                news = None
            assert news is not None, f"no {pattern!r} in {self.lines}"
            self.lines.append(news)

    def get(self, path: str, host: str = "localhost") -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        server.stop()


def test_the_server_answers_to_its_own_name_only(base: dict[str, str], servers: list[Server], tmp_path: Path) -> None:
    server = Server(environ=base)
    servers.append(server)
    assert server.get("/")[0] == 200
    assert server.get("/", host=f"127.0.0.1:{server.port}")[0] == 200
    assert server.get("/", host="evil.example")[0] == 400
    (tmp_path / "data" / "secret.txt").write_text("no")
    assert server.get(f"/gradio_api/file={tmp_path}/data/secret.txt")[0] in (403, 404)
    assert server.get("/gradio_api/file=/etc/passwd")[0] in (403, 404)
    assert "password" not in "".join(server.lines)


def test_beyond_loopback_a_password_is_asked_for_and_printed_once(base: dict[str, str], servers: list[Server]) -> None:
    server = Server("--host", "0.0.0.0", environ=base)
    servers.append(server)
    password = server.line(r"Guests come in with the password (\S+)")
    assert server.get("/config", host="any.name")[0] == 401
    assert "".join(server.lines).count(password) == 1
