"""Settings from the command line and the environment."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipelines.jobs.ray.cluster import ClusterSettings
from tests.support.tiny_model import make_tiny_model
from ui.server import command_line
from ui.server.command_line import FIRST_PORT, PORTS_TO_TRY, is_loopback, new_link_folder, parse


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> dict[str, str]:
    return {"PLAYGROUND_MODEL": str(tiny_folder), "PLAYGROUND_DATA_DIR": str(tmp_path / "data")}


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], environ: Mapping[str, str]) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(argv, environ)
    out = capsys.readouterr()
    assert caught.value.code == 2
    assert out.out == ""
    assert out.err.count("\n") == 1
    return out.err


def test_defaults(base: dict[str, str], tiny_folder: Path) -> None:
    settings = parse([], base)
    assert settings.host == "127.0.0.1"
    assert FIRST_PORT <= settings.port < FIRST_PORT + PORTS_TO_TRY
    assert (settings.devices, settings.attention) == (("auto",), {"": "auto"})
    assert (settings.oom_fallback, settings.compile, settings.quantize, settings.offline) == (True, False, "", False)
    assert settings.engine == "auto"
    assert settings.auth is None
    assert not settings.share
    assert not settings.open_browser
    assert settings.model.source == str(tiny_folder)
    assert settings.model in settings.cards
    assert settings.pictures_dir.is_dir()


def test_the_command_line_goes_before_the_environment(base: dict[str, str]) -> None:
    environ = {**base, "PLAYGROUND_DEVICE": "mps", "PLAYGROUND_OPEN": "yes", "PLAYGROUND_AUTH": "a:b"}
    assert parse([], environ).devices == ("mps",)
    assert parse([], environ).open_browser
    assert parse([], environ).auth == ("a", "b")
    assert parse(["--device", "cuda:1"], environ).devices == ("cuda:1",)
    settings = parse(["--device", "cpu", "--no-open", "--auth", "anna:x:y"], environ)
    assert settings.devices == ("cpu",)
    assert not settings.open_browser
    assert settings.auth == ("anna", "x:y")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--port", "0"], "'0' is not a whole number from 1 to 65535"),
        (["--port", "70000"], "from 1 to 65535"),
        (["--port", "²"], "from 1 to 65535"),
        (["--device", "tpu"], "'tpu'"),
        (["--device", "cuda:x"], "'cuda:x'"),
        (["--device", "mps:1"], "cuda:1 for another card"),
        (["--attention", "flash"], "'flash'"),
        (["--engine", "steam"], "'steam'"),
        (["--model", "no such model"], "There is no model 'no such model'"),
        (["--host", "no.such.host.invalid"], "unknown here"),
        (["--host", "192.0.2.1", "--port", "7860"], "cannot be used"),
        (["--data-dir", "/dev/null/x"], "cannot be used"),
        (["--c2pa-key", "key.pem"], "both --c2pa-certificate and --c2pa-key"),
        (["--c2pa-key", "/dev/null/k", "--c2pa-certificate", "/dev/null/c"], "/dev/null/c cannot be read"),
        (["--c2pa-algorithm", "rot13"], "'rot13'"),
        (["--ray-replicas", "4:2"], "a minimum above its maximum"),
        (["--ray-replicas", "0"], "from 1 to 1000"),
        (["--backend", "spark"], "'spark'"),
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
        monkeypatch.setattr(command_line, "FIRST_PORT", port)
        assert parse([], base).port > port


@pytest.mark.parametrize("argv", [["--share"], ["--host", "0.0.0.0"], ["--host", "::"]])
def test_a_server_that_others_can_reach_gets_a_password(base: dict[str, str], argv: list[str]) -> None:
    first, second = parse(argv, base), parse(argv, base)
    assert first.password_generated
    assert first.auth is not None
    assert second.auth is not None
    assert len(first.auth[1]) >= 12
    assert first.auth != second.auth
    assert parse([*argv, "--auth", "a:b"], base).auth == ("a", "b")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_needs_no_password(host: str) -> None:
    assert is_loopback(host)


def test_models_of_a_folder_are_offered_and_broken_ones_are_reported(
    base: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_model(tmp_path / "models" / "mine")
    (tmp_path / "models" / "half.safetensors").write_bytes(b"nothing")
    found = parse(["--models-dir", str(tmp_path / "models"), "--model", "mine"], base)
    assert found.model.id == "mine" and {card.id for card in found.cards} >= {"mine", "pocket"}
    assert len(found.problems) == 1 and "half.safetensors" in found.problems[0]
    capsys.readouterr()  # the model's own progress bars
    assert "nowhere" in refused(capsys, ["--models-dir", str(tmp_path / "nowhere")], base)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("sdpa", {"": "sdpa"}),
        ("sdxl=xformers", {"": "auto", "sdxl": "xformers"}),
        ("xformers,owner/name=sdpa", {"": "xformers", "owner/name": "sdpa"}),
    ],
)
def test_attention_is_chosen_for_all_models_or_some(base: dict[str, str], text: str, chosen: dict[str, str]) -> None:
    assert parse(["--attention", text], base).attention == chosen


@pytest.mark.parametrize("name", ["oom-fallback", "ladder"])
def test_the_oom_fallback_has_an_old_name(base: dict[str, str], name: str) -> None:
    variable = "PLAYGROUND_" + name.upper().replace("-", "_")
    assert not parse([f"--no-{name}"], base).oom_fallback
    assert not parse([], {**base, variable: "no"}).oom_fallback
    assert parse([f"--{name}"], {**base, variable: "no"}).oom_fallback


@pytest.mark.parametrize(
    ("text", "root"),
    [("/", ""), ("paint", "/paint"), ("/a/b/", "/a/b"), ("https://X.org/paint/", "https://x.org/paint"),
     ("http://x.org:81", "http://x.org:81")],
)  # fmt: skip
def test_a_root_path_is_a_path_or_a_whole_address(base: dict[str, str], text: str, root: str) -> None:
    assert parse(["--root-path", text], base).root == root
    assert parse([], {**base, "PLAYGROUND_ROOT_PATH": text}).root == root


@pytest.mark.parametrize(
    "argv",
    [["--root-path", "/a b"], ["--root-path", "/../x"], ["--root-path", "ftp://x.org/a"], ["--root-path", "/a?b"],
     ["--root-path", "https:///a"], ["--root-path", '/"><script>'], ["--allow-host", "a b"], ["--allow-host", "*"],
     ["--allow-host", "a/b"], ["--allow-host", "http://a.org"]],
)  # fmt: skip
def test_a_wrong_root_path_or_host_name_is_one_sentence(
    capsys: pytest.CaptureFixture[str], base: dict[str, str], argv: list[str]
) -> None:
    assert argv[0] in refused(capsys, argv, base)


def test_behind_a_proxy_guests_must_give_a_password(base: dict[str, str]) -> None:
    settings = parse(["--allow-host", "a.org,.B.org", "--allow-host", "c.org:81"], base)
    assert settings.allowed == ("a.org", ".b.org", "c.org:81") and settings.password_generated
    assert parse(["--root-path", "/paint"], base).password_generated and not parse([], base).password_generated
    assert parse([], {**base, "PLAYGROUND_ALLOW_HOST": "a.org,b.org"}).allowed == ("a.org", "b.org")


@pytest.mark.parametrize("host", ["::1", "[::1]", "::"])
def test_an_ipv6_address_is_free_only_where_gradio_can_use_it(base: dict[str, str], host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit):
            parse(["--host", host, "--port", str(taken.getsockname()[1])], base)
    assert parse(["--host", host], base).host == host.strip("[]")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_every_address_is_free_only_without_a_server_on_one_of_them(base: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.3", 0))
        taken.listen()
        for host in ("0.0.0.0", "::"):
            with pytest.raises(SystemExit):
                parse(["--host", host, "--port", str(taken.getsockname()[1])], base)


def test_a_new_link_is_asked_for_without_looking_for_a_port(base: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        assert new_link_folder(["--new-link", "--port", port], base) == tmp_path / "data"
    assert new_link_folder([], base) is None


def test_several_devices_go_before_the_one(base: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--devices", "cpux2"], base).devices == ("cpu", "cpu")
    assert parse(["--device", "mps"], {**base, "PLAYGROUND_DEVICES": "cuda:0,cuda:1"}).devices == ("cuda:0", "cuda:1")
    with pytest.raises(SystemExit):
        parse(["--devices", "cuda:0,cuda:0"], base)
    assert "cuda:0 is named twice; name each graphics card once" in capsys.readouterr().err


def test_a_cluster_is_asked_for_by_name(
    capsys: pytest.CaptureFixture[str], base: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse([], base).cluster is None
    monkeypatch.setattr(command_line, "find_spec", lambda name: None)
    assert "pip install -r requirements-ray.txt" in refused(capsys, ["--backend", "ray"], base)
    monkeypatch.setattr(command_line, "find_spec", lambda name: name)
    assert "use --ray-replicas" in refused(capsys, ["--backend", "ray", "--devices", "cpux2"], base)
    asked = ["--backend", "ray", "--ray-replicas", "0:4", "--device", "cuda:1", "--threads", "2"]
    settings = parse(asked, base)
    assert settings.cluster == ClusterSettings("", (0, 4), "cuda", 2, False)
    assert settings.devices == ("cpu",), "what the page itself computes"
    assert "ray" not in sys.modules
