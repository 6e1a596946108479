"""Settings of the program: the command line first, then ``PLAYGROUND_*`` variables, then defaults."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from pipelines.images.signing import ALGORITHMS, PictureSigner, SigningFailed, read_signer
from pipelines.jobs.ray.cluster import ClusterSettings
from pipelines.system.gpu import nvidia_smi
from pipelines.system.gpu.device_list import device_list
from presets import catalogue, models_folder
from presets.user_models import UserModels
from ui.server.addresses import Addresses
from ui.server.network import is_unspecified

if TYPE_CHECKING:
    from pipelines.cards import ModelCard

PREFIX = "PLAYGROUND_"
FIRST_PORT = 7860
PORTS_TO_TRY = 100
DEVICES = ("auto", "cpu", "cuda", "mps")
ATTENTION = ("auto", "sdpa", "xformers")
ENGINES = ("auto", "torch", "openvino")
# A host name or an address, and perhaps a port.
_HOST = re.compile(r"([\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", re.ASCII)
BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Settings:
    """What the command line and the environment ask for, with every default filled in.

    Attributes:
        host, port: where the page is served.
        model: card of the model that the page starts with.
        cards: of every known model, downloaded or not.
        user_models: the models that users added.
        problems: one sentence for each file or folder of models that cannot be used.
        devices: of each worker.
        attention, engine, compile, quantize: as asked for; ``pipelines.models.placement.resolve`` turns them into
            a placement.
        safety_checker: whether models' own safety checkers are used.
        oom_fallback: whether a run that is out of memory is retried in a way that needs less.
        offline: whether downloads are forbidden.
        open_browser: whether to open the page in a browser.
        share: whether to create a public link.
        auth: name and password that guests must give, or None; guests are not asked for an empty name.
        password_generated: whether the password was made here, so that it has to be printed.
        guest_api: whether guests may use the API.
        data_dir: holds the pictures (``data_dir/pictures``) and the users' own adapters.
        models_dir: a folder with models and LoRAs, or None.
        threads: CPU threads of each worker, 0 for the default.
        root: the path of the page behind a proxy, such as ``/paint``, or its whole address there; "" for none.
        allowed: names under which a proxy asks for the page.
        signer: signs pictures, or None.
        cluster: where the models are, None for this computer.
    """

    host: str
    port: int
    model: ModelCard
    cards: tuple[ModelCard, ...]
    user_models: UserModels
    problems: tuple[str, ...]
    devices: tuple[str, ...]
    attention: Mapping[str, str]
    engine: str
    compile: bool
    quantize: str
    safety_checker: bool
    oom_fallback: bool
    offline: bool
    open_browser: bool
    share: bool
    auth: tuple[str, str] | None
    password_generated: bool
    guest_api: bool
    data_dir: Path
    models_dir: Path | None
    threads: int
    root: str
    allowed: tuple[str, ...]
    signer: PictureSigner | None = None
    cluster: ClusterSettings | None = None

    @property
    def addresses(self) -> Addresses:
        """Under which addresses the page is reached."""
        return Addresses(self.host, self.port, self.root, self.allowed)

    @property
    def pictures_dir(self) -> Path:
        """Where finished pictures are written."""
        return self.data_dir / "pictures"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one sentence without the usage lines and exit with status 2."""
        text = message[:1].upper() + message[1:]
        print(text if text.endswith(".") else f"{text}; --help lists what is allowed.", file=sys.stderr)
        raise SystemExit(2)


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings of this start.

    Raises:
        SystemExit: with status 2 and one printed sentence, for a wrong value.
    """
    parser = create_parser()
    _apply_environment(parser, environ)
    args = parser.parse_args(argv)
    cluster = _cluster(parser, args)
    try:
        data_dir = _data_dir(parser, args.data_dir or default_data_dir(environ))
        cards, user_models, problems = _find_models(parser, args.models_dir, data_dir)
        model = catalogue.card_for(args.model, cards, download_configs=None if args.offline else _download_configs)
    except catalogue.CatalogueError as error:
        parser.error(str(error))
    host = args.host.strip("[]")
    # A proxy's requests come from this computer: whoever it lets through must give the password.
    exposed = args.share or args.root_path or args.allow_host or not is_loopback(host)
    password_generated = args.auth is None and bool(exposed)
    return Settings(
        host=host,
        port=_port(parser, host, args.port),
        model=model,
        cards=tuple(cards) if model in cards else (model, *cards),
        user_models=user_models,
        problems=tuple(problems),
        devices=("cpu",) if cluster else args.devices or (args.device,),
        attention=args.attention,
        engine=args.engine,
        compile=args.compile,
        quantize=args.quantize,
        safety_checker=args.safety_checker,
        oom_fallback=args.oom_fallback,
        offline=args.offline,
        open_browser=args.open if args.open is not None else _has_display(environ),
        share=args.share,
        auth=("", secrets.token_urlsafe(12)) if password_generated else args.auth,
        password_generated=password_generated,
        guest_api=args.guest_api,
        data_dir=data_dir,
        models_dir=args.models_dir and args.models_dir.expanduser(),
        threads=args.threads,
        root=args.root_path,
        allowed=tuple(args.allow_host),
        signer=_signer(parser, args),
        cluster=cluster,
    )


def new_link_folder(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Path | None:
    """The data folder of the program to ask for a new link; None if the command line does not ask for one.

    Raises:
        SystemExit: as ``parse``.
    """
    parser = create_parser()
    _apply_environment(parser, environ)
    args = parser.parse_args(argv)
    return (args.data_dir or default_data_dir(environ)).expanduser().absolute() if args.new_link else None


def create_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="app.py",
        allow_abbrev=False,
        description="Type a prompt, watch the picture form out of noise, keep it.",
        epilog=f"Every option can be set in the environment: --data-dir is {PREFIX}DATA_DIR, and so on.",
    )
    add, yes_no = parser.add_argument, argparse.BooleanOptionalAction
    add("--host", default="127.0.0.1", help="address to serve on (default: this computer only)")
    add("--port", type=_number(1, 65535), help=f"default: {FIRST_PORT}, or the next free one")
    add("--root-path", type=_root_path, default="", metavar="PATH",
        help="path of the page behind a proxy, as in /paint, or its whole address there")  # fmt: skip
    add("--allow-host", type=_host_names, action="extend", default=[], metavar="NAME",
        help="a host name under which a proxy asks for the page (again for more)")  # fmt: skip
    add("--new-link", action="store_true", help="print a new owner's link of the program that runs, and end")
    add("--model", default="pocket", help="a name of the catalogue, a diffusers folder or a hub id (default: pocket)")
    add("--models-dir", type=Path, help="a folder with models: diffusers folders and single .safetensors files")
    add("--device", type=_device, default="auto", metavar="auto|cpu|cuda|cuda:1|mps",
        help="default: the fastest available")  # fmt: skip
    add("--devices", type=_devices, default=(), metavar="cuda:0,cuda:1",
        help="several at once instead of --device, each with a worker; cpux2 is two on the CPU")  # fmt: skip
    add("--backend", choices=("local", "ray"), default="local",
        help="where models run: on this computer, or on a cluster of Ray (requirements-ray.txt)")  # fmt: skip
    add("--ray-address", default="", metavar="auto|HOST:PORT", help="a cluster that runs already (default: start one)")
    add("--ray-replicas", type=_replicas, default=(1, 1), metavar="N|MIN:MAX",
        help="workers of the cluster, each with one graphics card or CPUs; 0:4 as needed")  # fmt: skip
    add("--attention", type=_attention, default={"": "auto"}, metavar="auto|sdpa|xformers",
        help="for all models, or for some: sdxl=xformers,sd15=sdpa (default: sdpa)")  # fmt: skip
    add("--engine", choices=ENGINES, default="auto",
        help="what computes small models on a CPU; openvino is faster (default: openvino if installed)")  # fmt: skip
    add("--compile", action=yes_no, default=False, help="torch.compile on NVIDIA GPUs")
    add("--quantize", choices=("", "int8", "int4"), default="", help="store a model's weights in fewer bits on a GPU")
    add("--oom-fallback", "--ladder", action=yes_no, default=True,
        help="when out of memory, retry in a way that needs less (default: yes)")  # fmt: skip
    add("--safety-checker", action=yes_no, default=True,
        help="check pictures with the model's own safety checker, if it has one (default: yes)")  # fmt: skip
    add("--offline", action=yes_no, default=False, help="never download anything")
    add("--open", action=yes_no, help="open the page in a browser (default: if there is one)")
    add("--share", action=yes_no, default=False, help="create a public link that asks for a password")
    add("--auth", type=_auth, metavar="USER:PASSWORD", help="ask guests for this name and password")
    add("--guest-api", action=yes_no, default=False, help="let guests use the API, too")
    add("--data-dir", type=Path, help="where pictures are saved (default: your own data folder)")
    add("--c2pa-certificate", type=Path, metavar="FILE", help="sign pictures with this certificate (PEM)")
    add("--c2pa-key", type=Path, metavar="FILE", help="the private key of that certificate (PEM)")
    add("--c2pa-algorithm", choices=ALGORITHMS, default=ALGORITHMS[0], help="of that key (default: es256)")
    add("--threads", type=_number(0, 256), default=0, help="CPU threads (default: physical cores, at most 4)")
    return parser


def _apply_environment(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Use PLAYGROUND_ variables as defaults, checked in the same way as the options."""
    for action in parser._actions:
        for variable in _variables(action):
            if not environ.get(variable):
                continue
            try:
                parser.set_defaults(**{action.dest: _convert(action, environ[variable])})
            except argparse.ArgumentTypeError as error:
                parser.error(f"{variable}: {error}")


def _variables(action: argparse.Action) -> list[str]:
    """The variables of an option; the one of its first name counts most and comes last."""
    if action.dest in ("help", "new_link"):
        return []
    names = [name for name in action.option_strings if not name.startswith("--no-")]
    return [PREFIX + name[2:].replace("-", "_").upper() for name in reversed(names)]


def _convert(action: argparse.Action, value: str) -> Any:
    if isinstance(action, argparse.BooleanOptionalAction):
        if value.lower() not in BOOLEANS:
            raise argparse.ArgumentTypeError(f"{value!r} is neither yes nor no")
        return BOOLEANS[value.lower()]
    if action.choices and value not in action.choices:
        raise argparse.ArgumentTypeError(f"{value!r} is not one of {', '.join(action.choices)}")
    return action.type(value) if callable(action.type) else value


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return number


def _device(text: str) -> str:
    kind, colon, number = text.partition(":")
    if kind not in DEVICES or (colon and not (kind == "cuda" and number.isascii() and number.isdigit())):
        raise argparse.ArgumentTypeError(
            f"{text[:20]!r} is not one of {', '.join(DEVICES)}, or cuda:1 for another card"
        )
    return text


def _devices(text: str) -> tuple[str, ...]:
    try:
        return device_list(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _replicas(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    least, most = _number(0, 1000)(low), _number(1, 1000)(high or low)
    if least > most:
        raise argparse.ArgumentTypeError(f"{text!r} has a minimum above its maximum; write 0:4")
    return least, most


def _cluster(parser: argparse.ArgumentParser, args: argparse.Namespace) -> ClusterSettings | None:
    """What is asked of a cluster, None without one."""
    if args.backend != "ray":
        return None
    if find_spec("ray") is None:
        parser.error("Ray is not installed: pip install -r requirements-ray.txt, or start without --backend ray.")
    if args.devices:
        parser.error("--devices is for this computer alone; with --backend ray use --ray-replicas.")
    device = args.device.partition(":")[0]
    if device == "auto":
        device = "cuda" if nvidia_smi.ask().cards else "cpu"
    return ClusterSettings(args.ray_address, args.ray_replicas, device, args.threads or 1, args.offline)


def _attention(text: str) -> dict[str, str]:
    """One choice for all models, or one for each named model; the key "" holds the choice for all others."""
    choices = {"": "auto"}
    for part in text.split(","):
        model, equals, choice = part.rpartition("=")
        if choice not in ATTENTION or (equals and not model):
            raise argparse.ArgumentTypeError(f"{part[:60]!r} is not one of {', '.join(ATTENTION)}, or model=choice")
        choices[model] = choice
    return choices


def _auth(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        # The message does not repeat the value, which may hold the password.
        raise argparse.ArgumentTypeError("give a name and a password with a colon between them, as in anna:secret")
    return user, password


def _root_path(text: str) -> str:
    """``/paint`` or ``https://example.org/paint``, without a slash at the end."""
    address = urlsplit(text) if "://" in text else None
    path = (address.path if address else f"/{text.lstrip('/')}").rstrip("/")
    plain = re.fullmatch(r"(/[\w.~-]+)*", path, re.ASCII) and not {".", ".."} & set(path.split("/"))
    if not plain or (address and (address.scheme not in ("http", "https") or not _HOST.fullmatch(address.netloc))):
        raise argparse.ArgumentTypeError(f"{text[:100]!r} is no path such as /paint, nor https://example.org/paint")
    return f"{address.scheme}://{address.netloc.lower()}{path}" if address else path


def _host_names(text: str) -> list[str]:
    """Names with commas between them; ``.example.org`` stands for all names below."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if not _HOST.fullmatch(name.removeprefix(".")):
            raise argparse.ArgumentTypeError(f"{name[:100]!r} is no host name such as paint.example.org")
    return names


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


def _signer(parser: argparse.ArgumentParser, args: argparse.Namespace) -> PictureSigner | None:
    """What signs pictures, None where no certificate is named."""
    certificate, key = args.c2pa_certificate, args.c2pa_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        parser.error("Signing needs both --c2pa-certificate and --c2pa-key; give the other one, too.")
    try:
        return read_signer(certificate.expanduser(), key.expanduser(), args.c2pa_algorithm)
    except SigningFailed as problem:
        parser.error(f"Pictures cannot be signed: {problem}.")


def _find_models(
    parser: argparse.ArgumentParser, models_dir: Path | None, data_dir: Path
) -> tuple[list[ModelCard], UserModels, list[str]]:
    """Cards of the catalogue, of a folder of models and of users' own models; none of the models is loaded."""
    known = catalogue.load()
    found: list[ModelCard] = []
    problems: list[str] = []
    if models_dir is not None:
        if not models_dir.expanduser().is_dir():
            parser.error(f"There is no folder {models_dir} for models; name another with --models-dir.")
        found, problems = models_folder.scan(models_dir.expanduser(), known)
    # In offline mode the hub's client refuses by itself.
    user_models = UserModels(data_dir / "models.json", [*known, *found], download_configs=_download_configs)
    added, more = user_models.load()
    return [*known, *found, *added], user_models, [*problems, *more]


def _download_configs(source: str) -> Path | None:
    """Folder with the configuration files of a model of the hub, downloaded without its weights."""
    from pipelines.hub.hub import Hub

    return Hub().download_configs(source)


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
    # Gradio refuses a port that is taken on 127.0.0.1, whatever the address that it is to serve.
    places = {(family, host), (socket.AF_INET, "127.0.0.1")}
    if is_unspecified(host):  # "::" serves both kinds of addresses
        places.add((socket.AF_INET, "0.0.0.0"))
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + PORTS_TO_TRY):
        try:
            for place in places:
                _try_to_bind(*place, port)
            return port
        except OSError as error:
            reason = error.strerror
    if wanted:
        parser.error(f"Port {wanted} of {host} cannot be used ({reason}); choose another with --port.")
    last = FIRST_PORT + PORTS_TO_TRY - 1
    parser.error(f"No port from {FIRST_PORT} to {last} is free on {host}; choose one with --port.")


def _try_to_bind(family: int, host: str, port: int) -> None:
    """Raise OSError if a server could not listen there."""
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, port))
