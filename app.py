"""The composition root: settings -> catalogue -> backend -> page -> launch.

Imports neither torch nor diffusers: the page appears first, the worker loads them afterwards.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

try:
    from pipelines.system import atomic_files, malloc
    from pipelines.system.text import FOLDERS, printable
    from ui.server.addresses import FolderInUse, NoLink, ask_for_links, lock_folder
    from ui.server.command_line import Settings, is_loopback, new_link_folder, parse
    from ui.shell import gradio_import
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed; start with make run, or pip install -r requirements.txt.")

if TYPE_CHECKING:
    import gradio as gr

    from history.store import History
    from pipelines.hub.hub import Hub
    from pipelines.jobs.backend import Backend
    from pipelines.models.manager import PipelineManager
    from ui.server.access import Access
    from ui.server.sharing import Sharing
    from ui.server.temp_files import TempFiles

# Folders of the data folder with users' own adapters.
ADAPTER_FOLDERS = ("loras", "embeddings", "controlnets", "ip_adapters", "annotators")
# Folders of the data folder that the program writes to; those of a pattern are many.
WRITTEN_FOLDERS = (
    "pictures", "traces", "traces/guests", "inputs", "inputs/guests", "memory", "compiled", "bin", "strips",
    "style_previews", "training_samples", "thumbnails/*",
)  # fmt: skip
WARM_UP_AFTER_SECONDS = 3.0
# How often the start asks whether the worker has looked at the graphics card.
CARD_SECONDS = 1.0
# When the program ends: until open pages are disconnected, and until threads of libraries that still run are cut off.
DISCONNECT_SECONDS, EXIT_SECONDS = 2.0, 8.0
# Uploaded pictures are deleted when no run has used them for so long.
UPLOAD_LIFETIME_SECONDS = 30 * 86400


def prepare_environment(settings: Settings) -> None:
    """Turn off telemetry, remote code and, in offline mode, the network; choose Gradio's folder of temporary files.

    Call it before Gradio is imported: Gradio and the hub's client read these variables once.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
    # The libraries' own messages while loading would bury the one line that has the address.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    # OpenMP threads that spin while they wait starve the server's threads on small machines.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Gradio records events for its monitoring page, which is disabled here, and scans all of them after each one.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
    # A folder of this process alone: Gradio's default is shared by all programs, and never cleaned after a kill.
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if not (parent and atomic_files.is_scratch_folder(Path(parent))):
        os.environ["GRADIO_TEMP_DIR"] = str(atomic_files.create_scratch_folder(parent))
    if settings.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    chosen = [folder.absolute() for folder in (settings.data_dir, settings.models_dir) if folder]
    os.environ[FOLDERS] = os.pathsep.join(map(str, chosen))
    gradio_import.skip_stubs()


@dataclass(frozen=True)
class Program:
    """Everything that runs.

    Attributes:
        demo, backend, access, sharing, temp_files, history: page, backend, access control, public link, temporary
            files and what was made.
        problems: one sentence for each thing that the user should know at the start.
    """

    demo: gr.Blocks
    backend: Backend
    access: Access
    sharing: Sharing
    temp_files: TempFiles
    history: History
    problems: tuple[str, ...] = ()


def create(settings: Settings, backend_name: str = "", **backend_options: Any) -> Program:
    """Wire everything; loads no model and opens no port.

    Args:
        settings: of ``parse``.
        backend_name: an entry of ``pipelines.jobs.backend.BACKENDS``; "" for what the settings ask for.
        backend_options: more for its class, such as ``on_step``.
    """
    prepare_environment(settings)
    from history.store import History
    from pipelines.hub.hub import Hub
    from pipelines.jobs.backend import backend_class
    from presets.library import ModelLibrary
    from ui import page
    from ui.server.temp_files import TempFiles

    data, hub = settings.data_dir, Hub()
    folders = [*(data / name for name in ADAPTER_FOLDERS), *([settings.models_dir] if settings.models_dir else [])]
    history = History(data, sign=settings.signer)
    options = {"adapter_dirs": folders, "pictures": history, "archive": history.strips, **backend_options}
    manager, *others = create_managers(settings, hub)
    options |= {"others": others} if others else {}
    options |= {"cluster": settings.cluster} if settings.cluster else {}
    create_backend = backend_class(backend_name or ("ray" if settings.cluster else "local"))
    backend: Backend = create_backend(manager, settings.pictures_dir, threads=settings.threads or None, **options)
    for folder in (data, *(found for name in WRITTEN_FOLDERS for found in data.glob(name))):
        atomic_files.remove_stale_parts(folder)
    library = ModelLibrary(manager, backend, hub, settings.user_models, others=others)
    access = create_access(settings)
    sharing = create_sharing(settings, access, backend)
    demo = page.build(backend, library, settings.model.id, settings.pictures_dir, sharing, history)
    also = (lambda: remove_old_uploads(backend, history), history.bin.tidy)
    temp_files = TempFiles(Path(os.environ["GRADIO_TEMP_DIR"]), also=also)
    return Program(demo, backend, access, sharing, temp_files, history, tuple(history.open()))


def remove_old_uploads(backend: Backend, history: History) -> None:
    """Remove uploads that no run has used for long, unless an entry of the history needs them."""
    from history.database import HistoryUnavailable

    try:
        backend.inputs.remove_unused(UPLOAD_LIFETIME_SECONDS, needed=history.reconciler.needed_uploads)
    except HistoryUnavailable as problem:
        logging.getLogger(__name__).info("No upload is removed now: %s", problem)


def create_managers(settings: Settings, hub: Hub) -> list[PipelineManager]:
    """A model manager for each device; they download without a question only the model that was asked for."""
    from pipelines.models.manager import PipelineManager

    made: list[PipelineManager] = []
    for device in settings.devices:
        manager = PipelineManager(
            settings.cards,
            device,
            settings.attention,
            hub=hub,
            fetches={settings.model.id},
            memory_dir=settings.data_dir / "memory",
            fallbacks=settings.oom_fallback,
            engine=settings.engine,
            engine_dir=settings.data_dir / "compiled",
            compile=settings.compile,
            quantize=settings.quantize,
            checks=settings.safety_checker,
            sibling=made[0] if made else None,
            managers=len(settings.devices),
        )
        made.append(manager)
    return made


def create_access(settings: Settings) -> Access:
    """Access control for the owner and, if there is a password, for guests."""
    from ui.server.access import Access, owner_key
    from ui.server.addresses import GUEST_KEY_FILE, KEY_FILE

    # Beyond loopback this machine's names are unknown here: any Host is allowed, and the password protects the page.
    addresses = settings.addresses
    hosts = {settings.host, *addresses.names} if is_loopback(settings.host) else {"*"}
    user, password = settings.auth or ("", "")
    key = owner_key(settings.data_dir / KEY_FILE)
    return Access(
        key, settings.port, frozenset(hosts), user, password, settings.guest_api,
        root_path=addresses.root_path, root_url=addresses.root if "://" in addresses.root else "",
        origins=addresses.origins, names_key=owner_key(settings.data_dir / GUEST_KEY_FILE),
    )  # fmt: skip


def create_sharing(settings: Settings, access: Access, backend: Backend) -> Sharing:
    """Public links to this server, through Gradio's share service."""
    from ui.server.network import network_url
    from ui.server.sharing import Sharing
    from ui.server.tunnel import Tunnel, gradio_client

    folder = settings.data_dir / "tunnel"
    addresses = settings.addresses
    return Sharing(
        access,
        settings.port,
        lambda: Tunnel(gradio_client(), folder, addresses.connectable),
        lambda: backend.guest_pictures,
        network_url(settings.host, settings.port, addresses.root_path),
    )


def launch(settings: Settings, program: Program) -> None:
    """Open the port and serve the page."""
    from ui.page import launch_options
    from ui.server.network import is_unspecified, listen_on_ipv4
    from ui.server.timeouts import guard_connections

    program.temp_files.start()
    options = launch_options(program.access, program.history)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    program.demo.launch(server_name=host, server_port=settings.port, **options)
    guard_connections(program.demo.server)
    if ":" in settings.host and is_unspecified(settings.host):
        listen_on_ipv4(program.demo.server)


def greeting(settings: Settings, program: Program, links: Sequence[str]) -> list[str]:
    """The lines to print once the page is there; creates the public link if the settings ask for one."""
    lines = [f"The Diffusion Playground is at {links[-1]} (Ctrl+C stops it)."]
    lines += [f"Behind your proxy it is at {link}" for link in links[:-1]]
    if settings.share:
        status = program.sharing.start()
        lines.append(f"Others reach it at {status.url}" if status.url else status.problem)
    lines += [*settings.problems, *program.problems]
    if settings.password_generated and settings.auth:
        lines.append(f"Guests sign in with the password {settings.auth[1]}")
    return lines


def wait_for_card(backend: Backend) -> str:
    """Wait until the worker has looked at the graphics card; why it is not used and what to do, "" if all is well."""
    while (problem := backend.status().card_problem) is None:
        time.sleep(CARD_SECONDS)
    return problem


def _call_later(seconds: float, function: Callable[..., Any], *args: Any) -> None:
    """Call a function after a while, unless the program has ended by then."""
    timer = threading.Timer(seconds, function, args)
    timer.daemon = True
    timer.start()


def _close(program: Program) -> None:
    """End everything within ten seconds, even with open connections and running jobs."""
    program.access.ending = True
    program.sharing.stop()
    program.temp_files.stop()
    program.backend.close()
    program.history.close()
    # Open pages are told about the end; connections that remain after that are cut off.
    if server := getattr(program.demo, "server", None):
        _call_later(DISCONNECT_SECONDS, setattr, server, "force_exit", True)
    program.demo.close(verbose=False)


def _on_sigterm(number: int, frame: Any) -> NoReturn:
    """End as Ctrl+C does, with no link and no job left; a second SIGTERM does not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def print_new_link(data_dir: Path) -> int:
    """Print a new owner's link of the program that runs with this data folder; the exit status."""
    try:
        print("\n".join(ask_for_links(data_dir)))
    except NoLink as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def start_problem(problem: OSError, data_dir: Path) -> str:
    """What keeps the program from starting, in one sentence for its owner."""
    what, reason = printable(problem.filename or data_dir), problem.strerror or type(problem).__name__
    return (
        f"The program cannot use {what} ({reason}); repair or move it, make room on its disk, or choose another folder "
        "with --data-dir."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl+C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal cannot show must not end the program
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # xformers asks to be reinstalled where it lacks an operator; the page says in a sentence what is used instead.
    logging.getLogger("xformers").setLevel(logging.ERROR)
    argv = sys.argv[1:] if argv is None else argv
    if (folder := new_link_folder(argv)) is not None:
        sys.exit(print_new_link(folder))
    settings = parse(argv)
    try:
        lock_folder(settings.data_dir, settings.addresses)
    except FolderInUse as problem:
        sys.exit(str(problem))
    except OSError as problem:
        sys.exit(start_problem(problem, settings.data_dir))
    signal.signal(signal.SIGTERM, _on_sigterm)
    malloc.limit_arenas()
    program, stopped = None, False
    try:
        try:
            program = create(settings, resident=True)
        except OSError as problem:
            logging.getLogger(__name__).debug("The program cannot start", exc_info=True)
            sys.exit(start_problem(problem, settings.data_dir))
        launch(settings, program)
        malloc.freeze_garbage_collector()
        links = settings.addresses.links(program.access.link_token())
        print("\n".join(greeting(settings, program, links)), flush=True)
        _call_later(WARM_UP_AFTER_SECONDS, program.backend.warm_up, settings.model.id)
        if settings.open_browser:
            webbrowser.open(links[-1])
        if told := wait_for_card(program.backend):
            print(told, flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
        stopped = True
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if program is not None:
            _call_later(EXIT_SECONDS, os._exit, 0)
            _close(program)
    if stopped:
        # A thread that still compiles a network would abort the process on its way out.
        atexit._run_exitfuncs()
        os._exit(0)


if __name__ == "__main__":
    main()
