"""The composition root: settings -> catalogue -> manager -> backend -> page -> launch.

Imports neither torch nor diffusers: the page paints first, the worker loads them afterwards.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

try:
    from pipelines import files, heaps
    from presets import catalogue
    from presets.shelf import Shelf
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed; start with make run, or pip install -r requirements.txt.")

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import gradio as gr

    from pipelines.backend import Backend
    from pipelines.cards import ModelCard
    from pipelines.hub import Hub
    from pipelines.manager import PipelineManager
    from ui.cache import Cache
    from ui.gate import Door
    from ui.sharing import Sharing

PREFIX = "PLAYGROUND_"
FIRST_PORT = 7860
TRY_PORTS = 100
# Folders of the data folder with what models wear, learn, follow and are shown.
EXTRAS = ("loras", "embeddings", "controlnets", "ip_adapters", "annotators")
# Folders of it that are written into while pictures are made.
KEPT = ("pictures", "traces", "inputs", "memory", "compiled")
ATTENTION = ("auto", "sdpa", "xformers")
ENGINES = ("auto", "torch", "openvino")
WARM_UP_AFTER = 3.0
# At the end, pages have so long to hang up; and everything has so long, libraries' threads that do not hear of it too.
HANG_UP_SECONDS, END_SECONDS = 2.0, 8.0
# Uploads, per file; Gradio's own default is no limit.
MAX_UPLOAD = "20mb"
# Pictures that runs started from go when nobody has used them for so long.
KEEP_INPUTS_SECONDS = 30 * 86400


@dataclass(frozen=True)
class Settings:
    """What the command line and the environment asked for; nothing in it is optional except the password.

    Attributes:
        host, port: where the page is served.
        model: the card of the model that the page starts with.
        cards: of every model that is known, on this machine or not.
        shelf: the models that people added.
        problems: what was found in a folder of models and cannot be used, one sentence each.
        device, attention, engine, compile, quantize: wishes; ``pipelines.device.resolve`` turns them into a placement.
        ladder: whether a run that needs too much memory is tried again in a way that needs less.
        checks: whether models' own safety checkers are used.
        offline: whether nothing may be fetched, whatever the page is asked for.
        open: whether to open a browser.
        share: whether to ask for a public link.
        auth: name and password that guests must give, or None; an empty name is not asked for.
        generated: whether the password was made here and has to be told.
        guest_api: whether guests may use the API.
        data_dir: pictures are kept in ``data_dir/pictures``; what models wear and are shown lies in folders of it
            (``EXTRAS``).
        models_dir: a folder with models and LoRAs, or None.
        threads: CPU threads of the worker, 0 for the default.
    """

    host: str
    port: int
    model: ModelCard
    cards: tuple[ModelCard, ...]
    shelf: Shelf
    problems: tuple[str, ...]
    device: str
    attention: Mapping[str, str]
    engine: str
    compile: bool
    quantize: str
    checks: bool
    ladder: bool
    offline: bool
    open: bool
    share: bool
    auth: tuple[str, str] | None
    generated: bool
    guest_api: bool
    data_dir: Path
    models_dir: Path | None
    threads: int

    @property
    def pictures_dir(self) -> Path:
        """Where finished pictures are written."""
        return self.data_dir / "pictures"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One plain sentence and exit 2, without the usage lines."""
        text = message[:1].upper() + message[1:]
        print(text if text.endswith(".") else f"{text}; --help lists what is allowed.", file=sys.stderr)
        raise SystemExit(2)


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the command line, then from PLAYGROUND_ variables, then defaults; exits 2 on a wrong value."""
    parser = _parser()
    _apply_environment(parser, environ)
    given = parser.parse_args(argv)
    try:
        data_dir = _data_dir(parser, given.data_dir or default_data_dir(environ))
        cards, shelf, problems = _cards(parser, given.models_dir, data_dir)
        model = catalogue.card_for(given.model, cards, peek=None if given.offline else _peek)
    except catalogue.CatalogueError as error:
        parser.error(str(error))
    host = given.host.strip("[]")
    exposed = given.share or not is_loopback(host)
    auth, generated = given.auth, exposed and given.auth is None
    if generated:
        auth = ("", secrets.token_urlsafe(12))
    return Settings(
        host=host,
        port=_port(parser, host, given.port),
        model=model,
        cards=tuple(cards) if model in cards else (model, *cards),
        shelf=shelf,
        problems=tuple(problems),
        device=given.device,
        attention=given.attention,
        engine=given.engine,
        compile=given.compile,
        quantize=given.quantize,
        checks=given.safety_checker,
        ladder=given.ladder,
        offline=given.offline,
        open=given.open if given.open is not None else _has_display(environ),
        share=given.share,
        auth=auth,
        generated=generated,
        guest_api=given.guest_api,
        data_dir=data_dir,
        models_dir=given.models_dir and given.models_dir.expanduser(),
        threads=given.threads,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="app.py",
        allow_abbrev=False,
        description="Type a prompt, watch it form out of noise, keep the picture.",
        epilog=f"Every option can be set in the environment: --data-dir is {PREFIX}DATA_DIR, and so on.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to serve on (default: this computer only)")
    add("--port", type=_number(1, 65535), help=f"default: {FIRST_PORT}, or the next one that is free")
    add("--model", default="pocket", help="a name of the catalogue, a diffusers folder or a hub id (default: pocket)")
    add("--models-dir", type=Path, help="a folder with models: diffusers folders and single .safetensors files")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: the fastest that is there")
    add("--attention", type=_attention, default={"": "auto"}, metavar="auto|sdpa|xformers",
        help="for all models, or for some: sdxl=xformers,sd15=sdpa (default: sdpa)")  # fmt: skip
    add("--engine", choices=ENGINES, default="auto",
        help="what computes small models on a CPU; openvino is faster (default: openvino if it is installed)")
    add("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile on NVIDIA GPUs")
    add("--quantize", choices=("", "int8", "int4"), default="", help="keep a model's matrices in fewer bits on a GPU")
    add("--ladder", action=argparse.BooleanOptionalAction, default=True,
        help="try again in a way that needs less when memory runs out (default: yes)")  # fmt: skip
    add("--safety-checker", action=argparse.BooleanOptionalAction, default=True,
        help="have a model's own safety checker look at its pictures, where it has one (default: yes)")  # fmt: skip
    add("--offline", action=argparse.BooleanOptionalAction, default=False, help="fetch nothing, whatever is asked for")
    add("--open", action=argparse.BooleanOptionalAction, help="open the page in a browser (default: if there is one)")
    add("--share", action=argparse.BooleanOptionalAction, default=False, help="make a public link; asks for a password")
    add("--auth", type=_auth, metavar="USER:PASSWORD", help="ask guests for this name and password")
    add("--guest-api", action=argparse.BooleanOptionalAction, default=False, help="let guests use the API, too")
    add("--data-dir", type=Path, help="where pictures are kept (default: your own data folder)")
    add("--threads", type=_number(0, 256), default=0, help="CPU threads (default: physical cores, at most 4)")
    return parser


def _apply_environment(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Use PLAYGROUND_ variables as defaults, checked in the same way as the options."""
    for action in parser._actions:
        name = PREFIX + action.dest.upper()
        value = environ.get(name, "")
        if not value or action.dest == "help":
            continue
        try:
            parser.set_defaults(**{action.dest: _converted(action, value)})
        except argparse.ArgumentTypeError as error:
            parser.error(f"{name}: {error}")


def _converted(action: argparse.Action, value: str) -> Any:
    if isinstance(action, argparse.BooleanOptionalAction):
        words = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if value.lower() not in words:
            raise argparse.ArgumentTypeError(f"{value!r} is neither yes nor no")
        return words[value.lower()]
    if action.choices and value not in action.choices:
        raise argparse.ArgumentTypeError(f"{value!r} is not one of {', '.join(action.choices)}")
    return action.type(value) if callable(action.type) else value


def _number(low: int, high: int) -> Any:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return number


def _attention(text: str) -> dict[str, str]:
    """One choice for all models, or choices by model; "" is for those that are not named."""
    chosen = {"": "auto"}
    for part in text.split(","):
        model, equals, choice = part.rpartition("=")
        if choice not in ATTENTION or (equals and not model):
            raise argparse.ArgumentTypeError(f"{part[:60]!r} is not one of {', '.join(ATTENTION)}, or model=choice")
        chosen[model] = choice
    return chosen


def _auth(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        # The value is not repeated: it may hold the password.
        raise argparse.ArgumentTypeError("give a name and a password with a colon between them, as in anna:secret")
    return user, password


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach a server on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_display(environ: Mapping[str, str]) -> bool:
    if sys.platform in ("win32", "darwin"):
        return "SSH_CONNECTION" not in environ
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _cards(
    parser: argparse.ArgumentParser, models_dir: Path | None, data_dir: Path
) -> tuple[list[ModelCard], Shelf, list[str]]:
    """The catalogue, what a folder of models holds, and what people added, with their shelf; none of them is loaded."""
    known = catalogue.load()
    found: list[ModelCard] = []
    problems: list[str] = []
    if models_dir is not None:
        if not models_dir.expanduser().is_dir():
            parser.error(f"The folder {models_dir} for models is not there; name another with --models-dir.")
        found, problems = catalogue.scan(models_dir.expanduser(), known)
    shelf = Shelf(data_dir / "models.json", [*known, *found], peek=_peek)  # it does not ask in offline mode
    mine, more = shelf.look()
    return [*known, *found, *mine], shelf, [*problems, *more]


def _peek(source: str) -> Path | None:
    """The configuration files of a model of the hub, when somebody adds one."""
    from pipelines.hub import Hub

    return Hub().peek(source)


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's data folder of this platform."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "diffusion-playground"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "diffusion-playground"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "diffusion-playground"


def _data_dir(parser: argparse.ArgumentParser, folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"The folder {folder} cannot be used ({error.strerror}); choose another with --data-dir.")
    if not os.access(folder / "pictures", os.W_OK):
        parser.error(f"The folder {folder} cannot be written to; choose another with --data-dir.")
    return folder


def _port(parser: argparse.ArgumentParser, host: str, wanted: int | None) -> int:
    """The port that was asked for, or the first free one from 7860 on."""
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except (OSError, UnicodeError):
        parser.error(f"The address {host[:200]!r} is unknown here; use 127.0.0.1 or an address of this computer.")
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + TRY_PORTS):
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            if os.name == "posix":
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
                return port
            except OSError as error:
                reason = error.strerror
    if wanted:
        parser.error(f"Port {wanted} of {host} cannot be used ({reason}); choose another with --port.")
    parser.error(
        f"No port from {FIRST_PORT} to {FIRST_PORT + TRY_PORTS - 1} is free on {host}; choose one with --port."
    )


def prepare_environment(settings: Settings) -> None:
    """No telemetry, no remote code; no network at all where that was asked for.

    Models are read from this machine's disk; only ``pipelines.hub`` asks the network, when somebody fetches one.

    Must run before Gradio is imported: it and the hub's client read these once.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
    # What these libraries say while they load would bury the one line that has the address.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    # Worker threads that spin while they wait starve the server's own threads on small machines.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # It keeps a record of events for a page that is shut here, and looks through all of them after each one.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
    # Its own folder for copies and uploads is one for all programs and users, and keeps what a killed one has left.
    if "GRADIO_TEMP_DIR" not in os.environ:
        os.environ["GRADIO_TEMP_DIR"] = str(files.scratch())
    if settings.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


@dataclass(frozen=True)
class Program:
    """Everything that runs: the page, what makes the pictures, who comes in, the public link, temporary files."""

    demo: gr.Blocks
    backend: Backend
    door: Door
    sharing: Sharing
    cache: Cache


def create(settings: Settings, **backend_options: Any) -> Program:
    """Wire everything; no model is loaded and no port is opened.

    Args:
        settings: of ``parse``.
        backend_options: more for LocalBackend, such as ``on_step``.
    """
    prepare_environment(settings)
    from pipelines.backend import LocalBackend
    from pipelines.hub import Hub
    from presets.library import Library
    from ui import page
    from ui.cache import Cache
    from ui.sharing import Sharing
    from ui.tunnel import Tunnel, gradio_client

    data, hub = settings.data_dir, Hub()
    folders = [*(data / name for name in EXTRAS), *([settings.models_dir] if settings.models_dir else [])]
    options = {"lora_dirs": folders, **backend_options}
    manager = _manager(settings, hub)
    backend = LocalBackend(manager, settings.pictures_dir, threads=settings.threads or None, **options)
    backend.inputs.clean(KEEP_INPUTS_SECONDS)
    for folder in (data, *(data / name for name in KEPT)):
        files.sweep(folder)
    library = Library(manager, backend, hub, settings.shelf)
    door = door_of(settings)
    sharing = Sharing(
        door, settings.port, lambda: Tunnel(gradio_client(), data / "tunnel"), lambda: backend.guest_pictures
    )
    demo = page.build(backend, library, settings.model.id, settings.pictures_dir, sharing)
    return Program(demo, backend, door, sharing, Cache(Path(os.environ["GRADIO_TEMP_DIR"])))


def _manager(settings: Settings, hub: Hub) -> PipelineManager:
    """What loads models; only the one that was asked for at the start may be fetched without a question."""
    from pipelines.manager import PipelineManager

    return PipelineManager(
        settings.cards,
        settings.device,
        settings.attention,
        hub=hub,
        fetches={settings.model.id},
        memory_dir=settings.data_dir / "memory",
        ladder=settings.ladder,
        engine=settings.engine,
        engine_dir=settings.data_dir / "compiled",
        compile=settings.compile,
        quantize=settings.quantize,
        checks=settings.checks,
    )


def door_of(settings: Settings) -> Door:
    """Who may come in: the owner, and whoever has the password if there is one."""
    from ui.gate import Door, owner_key

    # Names of this machine are unknown here; the password protects it.
    hosts = {settings.host} if is_loopback(settings.host) else {"*"}
    user, password = settings.auth or ("", "")
    key = owner_key(settings.data_dir / "owner.key")
    return Door(key, settings.port, frozenset(hosts), user, password, settings.guest_api)


def launch_arguments(settings: Settings, door: Door) -> dict[str, Any]:
    """Keyword arguments of Gradio's ``launch`` that make the server safe on this host."""
    from starlette.middleware import Middleware

    from ui.gate import Gate
    from ui.page import launch_options

    return {
        **launch_options(),
        "server_name": settings.host,
        "server_port": settings.port,
        "share": False,  # ``ui.sharing`` does that
        "quiet": True,
        "prevent_thread_lock": True,
        "app_kwargs": {"middleware": [Middleware(Gate, door=door)]},
        "max_file_size": MAX_UPLOAD,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        # The page's own errors are shown all the same; of others a guest learns nothing.
        "show_error": False,
    }


def greeting(settings: Settings, program: Program) -> list[str]:
    """What is printed once the page is there; its first line has the link that makes a browser the owner's, once."""
    here = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    shown = f"[{here}]" if ":" in here else here
    link = f"http://{shown}:{settings.port}/?owner={program.door.link_token()}"
    lines = [f"The Diffusion Playground is at {link} (Ctrl+C stops it)."]
    if settings.share:
        now = program.sharing.start()
        lines.append(f"Others reach it at {now.url}" if now.url else now.problem)
    lines += settings.problems
    if settings.generated and settings.auth:
        lines.append(f"Guests come in with the password {settings.auth[1]}")
    return lines


def _timer(seconds: float, function: Any, *values: Any) -> None:
    """Call a function after a while, unless the program has ended by then."""
    timer = threading.Timer(seconds, function, values)
    timer.daemon = True
    timer.start()


def _close(program: Program) -> None:
    """End everything within ten seconds, whoever is connected and whatever is being made."""
    program.sharing.stop()
    program.cache.stop()
    program.backend.close()
    # Pages that are open are told of the end; whoever still holds on to a connection then is cut off.
    if server := getattr(program.demo, "server", None):
        _timer(HANG_UP_SECONDS, setattr, server, "force_exit", True)
    program.demo.close(verbose=False)


def _end(number: int, frame: Any) -> NoReturn:
    """Asked to end, the program does so as at Ctrl+C: no link and no job is left behind; asked again, it goes on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl+C."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # It asks to be installed anew wherever it has no operator; the page says in a sentence what is used instead.
    logging.getLogger("xformers").setLevel(logging.ERROR)
    settings = parse(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _end)
    heaps.settle()
    program = None
    try:
        program = create(settings, resident=True)
        from ui.patience import guard

        # A folder that somebody has named (GRADIO_TEMP_DIR) may hold more than this program's files.
        if files.is_scratch(program.cache.folder):
            program.cache.start()
        program.demo.launch(**launch_arguments(settings, program.door))
        guard(program.demo.server)
        heaps.set_aside()
        lines = greeting(settings, program)
        print("\n".join(lines), flush=True)
        _timer(WARM_UP_AFTER, program.backend.warm_up, settings.model.id)
        if settings.open:
            webbrowser.open(lines[0].split()[5])
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("Stopped.")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if program is not None:
            _timer(END_SECONDS, os._exit, 0)
            _close(program)


if __name__ == "__main__":
    main()
