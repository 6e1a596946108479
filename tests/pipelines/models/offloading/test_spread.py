"""Models that do not fit on the pretend GPU whole, and memory that runs out on it in every way and place."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import CARDS, GB, MachineWith, PretendMachine
from benchmarks.gpu.pretend_memory import OUT_OF_MEMORY, Counts, PretendGpu
from pipelines.events import Failed, Finished
from pipelines.jobs.local import LocalBackend
from pipelines.model import Placement
from pipelines.models import oom_fallback, placement
from pipelines.models.components import module_bytes
from pipelines.models.families import loader
from pipelines.models.manager import PipelineManager
from pipelines.models.offloading import spread as offloading
from pipelines.models.offloading.foretold import foretold_offload, waiting_bytes
from pipelines.models.offloading.spread import BLOCKS, LAYERS, WAIT, gather, spread
from pipelines.models.oom_fallback import OomFallback, fallback_named
from pipelines.models.preflight import Preflight
from pipelines.models.residency import release_memory
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from pipelines.sampling.latents import latent_format
from pipelines.system.gpu.out_of_memory import out_of_memory
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_families import make
from tests.support.tiny_ip_adapters import make_adapter
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import _vae, make_tiny_model, tiny_card

ON_CARD = Placement(pretend_gpu.NAME, "float32", "sdpa", kind="cuda")
DOUBTFUL = ("cublas", "cudnn", "cudnn_engine", "cudnn_plan")


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    torch.set_num_threads(1)
    with pretend_gpu.use() as found:
        yield found


@pytest.fixture
def site(tiny_folder: Path, tmp_path: Path, gpu: PretendGpu) -> Iterator[Any]:
    made: list[LocalBackend] = []

    def backend(name: str = "GTX 1060", cards: Any = None, **options: Any) -> Any:
        manager = PipelineManager(
            cards or [tiny_card(tiny_folder)], machine=PretendMachine(name), memory_dir=tmp_path / "memory", **options
        )
        made.append(LocalBackend(manager, tmp_path / "pictures", threads=1, adapter_dirs=[tmp_path / "adapters"]))
        return made[-1]

    yield backend
    for each in made:
        each.close()


def ask(**changes: Any) -> Any:
    values = {"model": "tiny", "prompt": "a fox", "width": 32, "height": 32, "scheduler": "euler", "seed": 7}
    return make_request(**{**values, "num_inference_steps": 2, "guidance_scale": 4.0, **changes})


def last_of(backend: LocalBackend, request: Any) -> Any:
    return list(backend.submit(request).events())[-1]


def pixels(done: Finished) -> np.ndarray:
    return np.stack([np.asarray(Image.open(picture.path)) for picture in done.pictures]).astype(float)


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_every_way_to_say_that_memory_ran_out_is_known(kind: str, gpu: PretendGpu) -> None:
    error = OUT_OF_MEMORY[kind]()
    gpu.memory = 64 << 20
    assert out_of_memory(error) is (kind not in DOUBTFUL)
    held = torch.zeros(60 << 20, dtype=torch.uint8, device=pretend_gpu.NAME)
    assert out_of_memory(error) is True
    del held
    assert out_of_memory(ValueError(str(error))) is False


@pytest.mark.parametrize("kind", ["cuda", "cuda_error", "nvml"])
def test_each_of_them_takes_a_fallback_and_not_the_run(kind: str, site: Any, gpu: PretendGpu) -> None:
    backend = site()
    assert last_of(backend, ask()).notes == ()
    gpu.fail(kind, within="runner.py:_decode")
    done = last_of(backend, ask())
    assert isinstance(done, Finished), done
    assert "decoder in slices and tiles" in done.notes[0]


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
@pytest.mark.parametrize("how", [WAIT, BLOCKS, LAYERS])
def test_a_model_spread_over_the_card_and_ram_makes_the_same_picture(
    family: str, how: str, tmp_path: Path, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_model(tmp_path / "m") if family == "stable_diffusion" else make(family, tmp_path / "m")
    flow = family in ("stable_diffusion_3", "flux")
    card = tiny_card(folder, family=family, prediction_type="flow_prediction" if flow else "epsilon")
    gc.collect()
    empty = gpu.allocated
    model = loader(family)(card, ON_CARD, lambda *a: None)
    request = ask(scheduler="flow_euler" if flow else "euler", prompt="a fox" if flow else "a (red)1.3 fox")

    def run() -> np.ndarray:
        model.clear_prompt_cache()
        *_, last = denoise(model, request)
        return np.asarray(model.latents.decode(last.x_next)[0], np.int16)

    plain = run()
    whole = gpu.allocated
    in_loop = module_bytes(model.denoiser)
    monkeypatch.setattr(offloading, "BLOCK_BYTES", in_loop // 12)
    spread(model, how)
    before = gpu.allocated
    assert before < whole
    assert (before - empty >= in_loop) == (how == WAIT)
    assert np.abs(run() - plain).max() <= 1
    model.clear_prompt_cache()
    assert gpu.allocated <= before + (64 << 10)  # nothing stays behind
    gpu.reset()
    run()
    # No weight is copied back to RAM, which has them already.
    assert gpu.counts.copied_bytes < in_loop // 4
    model.clear_prompt_cache()
    gather(model)
    assert all(weight.device.type == "cpu" for part in model.modules.values() for weight in part.parameters())


def test_a_large_text_encoder_comes_layer_by_layer(
    tiny_folder: Path, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loader("stable_diffusion")(tiny_card(tiny_folder), ON_CARD, lambda *a: None)
    text = model.modules["text_encoder"]
    plain = model.encode_prompt(["a fox"]).prompt_embeds.cpu()

    def room(limit: int) -> int:
        monkeypatch.setattr(offloading, "VISIT_BYTES", limit)
        spread(model, WAIT)
        model.clear_prompt_cache()
        gpu.peak = before = gpu.allocated
        assert torch.equal(model.encode_prompt(["a fox"]).prompt_embeds.cpu(), plain)
        return gpu.peak - before

    assert room(1) + module_bytes(text) // 2 < room(1 << 40)


@pytest.mark.parametrize(
    ("how", "device", "in_loop", "limit", "pins"),
    [
        (BLOCKS, "cuda", True, offloading.BLOCK_BYTES, True),
        (LAYERS, "cuda", True, 0, False),
        (LAYERS, "cuda", False, 0, False),
        (BLOCKS, pretend_gpu.NAME, True, offloading.BLOCK_BYTES, False),
    ],
)
def test_blocks_are_pinned_and_layers_are_not(
    how: str, device: str, in_loop: bool, limit: int, pins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinned memory is of NVIDIA's and AMD's drivers; what is asked for can be seen anywhere."""
    asked: dict[str, Any] = {}
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    monkeypatch.setattr("pipelines.models.offloading.groups.split", lambda part, size: asked.update(limit=size) or [])
    monkeypatch.setattr("pipelines.models.offloading.pinned.pin", lambda tensors: asked.update(pins=True))
    monkeypatch.setattr(
        "pipelines.models.offloading.groups.WeightCourier", lambda part, work, groups: asked.update(work=work.type)
    )
    offloading.place(net, Placement(device, "float16", "sdpa", kind="cuda"), how, in_loop)
    assert asked == {"limit": limit, "work": device} | ({"pins": True} if pins else {})


def test_pinned_memory_goes_back_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("card"))
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: told.append("host"))
    release_memory()
    assert told == ["card", "host"]


@pytest.mark.parametrize("count", [2, 5])
def test_rungs_are_taken_from_quick_to_slow_until_the_run_fits(count: int, site: Any, gpu: PretendGpu) -> None:
    backend = site()
    plain = last_of(backend, ask(guidance_scale=1.0))
    gpu.fail("cuda", within="predict", times=count)
    done = last_of(backend, ask(guidance_scale=1.0))
    assert isinstance(done, Finished), done
    words = oom_fallback.words(["wait", "slices", "blocks", "parts", "half"][:count])
    assert done.notes[0].startswith(f"Memory ran out, so this was changed: {', '.join(words)};")
    assert np.abs(pixels(done) - pixels(plain)).max() <= (1 if count < 5 else 40)  # half precision


def test_a_model_that_cannot_fit_is_spread_before_it_is_loaded() -> None:
    def ahead(**parts: int) -> Preflight:
        total = sum(parts.values())
        return Preflight(parts, total, GB, 0, 0, 0, 0, None, True, False)

    def way(needs: Preflight, usable: int, quantize: str = "", family: str = "stable_diffusion") -> list[str]:
        here = Placement("cuda", "float16", "sdpa", quantize=quantize)
        return foretold_offload(needs, usable, here, tiny_card("x", family=family))

    sdxl = ahead(unet=5 * GB, text_encoder=GB // 4, text_encoder_2=GB * 3 // 2, vae=GB // 3)
    assert way(sdxl, 12 * GB) == []
    assert way(sdxl, 7 * GB - 1) == [WAIT]
    assert way(sdxl, 5 * GB) == [BLOCKS]
    assert way(sdxl, 2 * GB) == [BLOCKS]  # the rest is another program's
    assert way(sdxl, GB) == [LAYERS]  # no room for a text encoder
    assert waiting_bytes(sdxl, [BLOCKS]) == sdxl.weights and waiting_bytes(sdxl, []) == 0
    assert waiting_bytes(sdxl, [WAIT]) == sdxl.weights - 5 * GB
    medium = ahead(transformer=5 * GB, text_encoder_3=9 * GB, vae=GB // 6)
    assert way(medium, 11 * GB) == [WAIT]
    flux = ahead(transformer=24 * GB, text_encoder_2=9 * GB, text_encoder=GB // 4, vae=GB // 6)
    assert way(flux, 34 * GB) == []
    assert way(flux, 24 * GB) == [BLOCKS]
    # Pipelines with a loop of their own ask their parts where they are.
    assert way(medium, 11 * GB, family="any") == [LAYERS]
    assert way(medium, 15 * GB, family="any") == []
    assert way(flux, 24 * GB, "int8") == []


@pytest.mark.parametrize(("how", "next_way"), [(BLOCKS, LAYERS), (LAYERS, "")])
def test_memory_that_runs_out_brings_nothing_back_to_the_card(
    how: str, next_way: str, site: Any, gpu: PretendGpu
) -> None:
    backend = site()
    backend._manager.remember_fallbacks("tiny", 32 * 32, [how])
    before = gpu.allocated
    assert isinstance(last_of(backend, ask()), Finished)
    gpu.fail("cuda", within="runner.py:_decode", times=2 if next_way else 1)  # tiles, then the next way
    done = last_of(backend, ask())
    assert isinstance(done, Finished), done
    with backend._manager.lease("tiny") as model:
        assert {weight.device.type for weight in model.denoiser.parameters()} == {"cpu"}
        assert set(model.placement.fallbacks) == {how, "tiles", *filter(None, [next_way])}
    assert gpu.allocated - before < module_bytes(model.denoiser)


@pytest.mark.parametrize("place", ["lora.py", "controlnet.py", "ip_adapter.py"])
@pytest.mark.parametrize("kind", ["cuda_error"])
def test_an_adapter_that_does_not_fit_is_not_called_the_wrong_kind(
    place: str, kind: str, site: Any, gpu: PretendGpu, tiny_folder: Path, tmp_path: Path
) -> None:
    request = adapted(place, tiny_folder, tmp_path)
    backend = site()
    request = request(backend)
    gpu.fail(kind, within=place)
    done = last_of(backend, request)
    assert isinstance(done, Finished), done
    assert oom_fallback.words([WAIT])[0] in done.notes[0]


@pytest.mark.parametrize("how", [WAIT, BLOCKS, LAYERS])
@pytest.mark.parametrize("place", ["lora.py", "controlnet.py", "ip_adapter.py"])
def test_adapters_work_on_a_model_that_is_spread(
    place: str, how: str, site: Any, gpu: PretendGpu, tiny_folder: Path, tmp_path: Path
) -> None:
    request = adapted(place, tiny_folder, tmp_path)
    backend = site()
    request = request(backend)
    plain, bare = last_of(backend, request), last_of(backend, ask())
    assert isinstance(plain, Finished), plain
    backend._manager.remember_fallbacks("tiny", 32 * 32, [how])
    for asked, wanted in ((request, plain), (request, plain), (ask(), bare)):
        done = last_of(backend, asked)
        assert isinstance(done, Finished), done
        assert oom_fallback.words([how])[0] in done.notes[0]
        assert np.abs(pixels(done) - pixels(wanted)).max() <= 1


@pytest.mark.parametrize("place", ["lora.py", "controlnet.py", "ip_adapter.py"])
def test_no_step_with_an_adapter_waits_for_the_card(
    place: str, gpu: PretendGpu, tiny_folder: Path, tmp_path: Path
) -> None:
    counted: list[tuple[int, int, int]] = []

    def count(job: Any, step: Any) -> None:
        counted.append((gpu.counts.scalar_syncs, gpu.counts.blocking_copies, gpu.counts.uploads))
        gpu.counts = Counts()

    manager = PipelineManager([tiny_card(tiny_folder)], machine=PretendMachine("GTX 1060"))
    backend = LocalBackend(
        manager, tmp_path / "pictures", threads=1, adapter_dirs=[tmp_path / "adapters"], on_step=count
    )
    try:
        done = last_of(backend, adapted(place, tiny_folder, tmp_path)(backend))
    finally:
        backend.close()
    assert isinstance(done, Finished), done
    assert len(counted) > 1 and set(counted[1:]) == {(0, 0, 0)}


def uploads_of_a_step(model: Any, gpu: PretendGpu) -> int:
    """Tensors that a step waits for on their way to the card; the first step encodes the prompt."""
    counts = []
    for step in denoise(model, ask()):
        counts.append(gpu.counts.uploads)
        gpu.reset()
        assert step.x_next.device.type == pretend_gpu.NAME
    return counts[-1]


@pytest.mark.parametrize("how", [WAIT, BLOCKS, LAYERS])
def test_a_lora_stays_on_the_card_for_it_works_at_every_step(
    how: str, gpu: PretendGpu, tiny_folder: Path, tmp_path: Path
) -> None:
    make_lora(tiny_folder, "stable_diffusion", tmp_path / "bold.safetensors", 1)
    model = loader("stable_diffusion")(tiny_card(tiny_folder), ON_CARD, lambda *a: None)
    model.placement = replace(ON_CARD, fallbacks=(how,))
    spread(model, how)
    plain = uploads_of_a_step(model, gpu)
    assert plain == 0 or how != WAIT
    model.set_loras([(str(tmp_path), "bold.safetensors", 0.8)])
    for _ in range(2):
        assert uploads_of_a_step(model, gpu) == plain
        spread(model, how)


@pytest.mark.parametrize("how", [WAIT, BLOCKS, LAYERS])
def test_previews_take_nothing_to_the_card(how: str, gpu: PretendGpu, tiny_folder: Path) -> None:
    model = loader("stable_diffusion")(tiny_card(tiny_folder), ON_CARD, lambda *a: None)
    small = _vae("tiny", 4).to(pretend_gpu.NAME).eval().requires_grad_(False)
    model.latents = latent_format(model.parts["vae"], small)
    latents = torch.zeros(2, 4, 8, 8, device=pretend_gpu.NAME)
    spread(model, how)
    gpu.reset()
    assert model.latents.small_preview(latents, 32).shape[0] == 2
    assert gpu.counts.uploads == 0
    gather(model)
    assert {weight.device.type for weight in small.parameters()} == {"cpu"}


@pytest.mark.parametrize("on_cpu", [False, True])
def test_tiles_take_an_autoencoder_that_waits_to_the_card_once(
    on_cpu: bool, gpu: PretendGpu, tiny_folder: Path
) -> None:
    model = loader("stable_diffusion")(tiny_card(tiny_folder), ON_CARD, lambda *a: None)
    vae, latents = model.parts["vae"], torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    fallback_named("tiles").apply(model)
    small = vae.tile_latent_min_size
    assert small < 32
    x = latents if on_cpu else latents.to(pretend_gpu.NAME)
    plain = model.latents.decode(x)
    spread(model, WAIT)
    parts = [part for part in (vae.decoder, vae.post_quant_conv) if part is not None]
    for _ in range(2):
        gpu.reset()
        gc.collect()
        before = gpu.allocated
        assert np.array_equal(np.asarray(model.latents.decode(x)[0]), np.asarray(plain[0]))
        assert gpu.counts.uploads == sum(len(list(part.parameters())) for part in parts) + on_cpu
        gc.collect()
        assert gpu.allocated == before  # nothing stays after the picture
    pictures = torch.zeros(1, 3, 256, 256)
    gpu.reset()
    model.latents.encode(pictures)
    read = [part for part in (vae.encoder, vae.quant_conv) if part is not None]
    assert gpu.counts.uploads == sum(len(list(part.parameters())) for part in read) + 1
    gather(model)
    assert not {"tiled_decode", "_tiled_encode"} & vars(vae).keys()


def adapted(place: str, tiny_folder: Path, tmp_path: Path) -> Any:
    """A request with an adapter, once there is a backend to upload its picture to."""
    folder = tmp_path / "adapters"
    folder.mkdir(exist_ok=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))

    def request(backend: Any) -> Any:
        if place == "lora.py":
            make_lora(tiny_folder, "stable_diffusion", folder / "bold.safetensors", 1)
            return ask(loras=({"name": "bold", "weight": 0.8},))
        unet = UNet2DConditionModel.from_pretrained(tiny_folder, subfolder="unet")
        image = backend.inputs.put(picture)
        image = getattr(image, "id", image)
        if place == "controlnet.py":
            make_controlnet(unet, folder / "edges")
            return ask(controls=({"net": "edges", "image": image, "kind": "map"},))
        make_adapter(unet, folder / "plain.safetensors")
        return ask(reference={"adapter": "plain", "image": image, "weight": 0.7})

    return request


class Linear8bitLt(torch.nn.Linear):
    """Stands in for bitsandbytes' layer of this name: whole numbers of 8 bits and a scale a row."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.bias = linear.bias
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True).clamp_min(1e-9) / 127
        self.weight = torch.nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype), self.bias)


def test_a_quantised_model_with_a_lora_takes_rungs_too(
    site: Any, gpu: PretendGpu, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantize(module: Any, kind: str) -> None:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is torch.nn.Linear:
                    setattr(parent, name, Linear8bitLt(child))

    request = adapted("lora.py", tiny_folder, tmp_path)
    whole, bare = last_of(site(), request(None)), last_of(site(), ask())
    monkeypatch.setattr(placement, "quantize_linear", quantize)
    monkeypatch.setattr(placement, "find_spec", lambda name: object())
    backend = site(quantize="int8")
    plain = last_of(backend, ask())
    done = last_of(backend, request(backend))
    assert isinstance(done, Finished), done
    far = np.abs(pixels(whole) - pixels(bare)).mean()
    for ours, theirs in ((done, whole), (plain, bare)):
        assert np.abs(pixels(ours) - pixels(theirs)).mean() < far / 2
    gpu.fail("cuda", within="predict", times=2)
    again = last_of(backend, request(backend))
    assert isinstance(again, Finished), again
    assert oom_fallback.words(["wait"])[0] in again.notes[0]
    assert np.abs(pixels(again) - pixels(done)).max() <= 1
    with backend._manager.lease("tiny") as model:
        assert any(type(one) is Linear8bitLt for one in model.denoiser.modules())
        assert {weight.device.type for weight in model.denoiser.parameters()} == {pretend_gpu.NAME}


def test_the_share_is_bounded_again_before_each_load(tiny_folder: Path, gpu: PretendGpu) -> None:
    """A bound that another program's memory has set must not outlast that program."""
    machine, calls = PretendMachine("GTX 1060"), []
    machine.bound_share = lambda: calls.append("bound")  # type: ignore[method-assign]
    machine.make_current = lambda: calls.append("current")  # type: ignore[method-assign]
    manager = PipelineManager([tiny_card(tiny_folder)], machine=machine)
    for _ in range(2):
        for _ in range(2):
            with manager.lease("tiny"):
                pass
        manager.unload()
    assert calls == ["current", "bound", "current"] * 2


@pytest.mark.parametrize(("name", "leases"), [("M1", 3), ("RTX 3060", 0)])
def test_an_idle_apple_gpu_keeps_no_memory_of_the_last_run(
    name: str, leases: int, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(pretend_gpu._DeviceModule, "empty_cache", lambda module: emptied.append(name))
    backend = site(name)
    for _ in range(2):
        assert isinstance(last_of(backend, ask()), Finished)
    with backend._manager.lease("tiny"):
        pass
    backend.close()  # the last event comes before the lease ends
    assert len(emptied) == leases


@pytest.mark.parametrize("name", ["M1", "RTX 3060"])
def test_the_image_encoder_of_an_ip_adapter_leaves_the_card(
    name: str, site: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    request = adapted("ip_adapter.py", tiny_folder, tmp_path)
    backend = site(name)
    assert isinstance(last_of(backend, request(backend)), Finished)
    with backend._manager.lease("tiny") as model:
        _, encoder = model._ip_adapter._encoder  # type: ignore[attr-defined]
    assert {weight.device.type for weight in encoder.parameters()} == {"cpu"}


def test_a_model_that_finds_no_room_on_its_way_back_is_spread_as_its_sizes_say(
    tiny_folder: Path, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = PretendMachine("GTX 1060")
    manager = PipelineManager([tiny_card(tiny_folder)], machine=machine)
    with manager.lease("tiny") as model:
        in_loop = module_bytes(model.denoiser)
    assert manager._residency.put_aside_idle()
    gc.collect()
    # No room for the denoiser alone, but for two blocks of it.
    gpu.memory = gpu.allocated + in_loop // 2
    monkeypatch.setattr("pipelines.models.offloading.foretold.BLOCK_BYTES", in_loop // 8)
    monkeypatch.setattr("pipelines.models.offloading.foretold.VISIT_BYTES", in_loop // 8)
    with manager.lease("tiny") as model:
        assert model.placement.fallbacks == (BLOCKS,)


def test_idle_models_leave_the_card_before_a_rung_is_taken(site: Any, gpu: PretendGpu, tmp_path: Path) -> None:
    cards = [tiny_card(make_tiny_model(tmp_path / name, seed=k), id=name) for k, name in enumerate("ab")]
    backend = site(cards=cards)
    for card in cards:
        assert last_of(backend, ask(model=card.id)).notes == ()
    assert {state.where for state in backend._manager.states()} == {"gpu"}
    gpu.fail("cuda", within="predict")
    assert last_of(backend, ask(model="b")).notes == ()
    assert [state.where for state in backend._manager.states()] == ["ram", "gpu"]


@pytest.mark.parametrize("name", ["M1", None])
def test_where_there_is_one_memory_idle_models_are_dropped_first(
    name: str | None, site: Any, gpu: PretendGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [tiny_card(make_tiny_model(tmp_path / each, seed=k), id=each) for k, each in enumerate("ab")]
    machine = PretendMachine(name) if name else MachineWith(None)
    monkeypatch.setattr("tests.pipelines.models.offloading.test_spread.PretendMachine", lambda _: machine)
    backend = site(name, cards=cards)
    for card in cards:
        assert last_of(backend, ask(model=card.id)).notes == ()
    plain, left = UNet2DConditionModel.forward, [1]

    def full(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()
            raise OUT_OF_MEMORY["mps" if name else "cpu"]()
        return plain(*args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", full)
    assert last_of(backend, ask(model="b")).notes == ()
    assert backend._manager.loaded == ("b",)


def test_a_rung_is_forgotten_once_other_programs_have_left_the_card(tmp_path: Path) -> None:
    crowded, alone = (MachineWith(CARDS["RTX 3060"], free=free) for free in (4 * GB, 11 * GB))
    card = Placement("cuda", "float16", "sdpa")
    OomFallback(tmp_path, crowded).remember("x", card, 512 * 512, ["tiles", "wait"])
    assert OomFallback(tmp_path, crowded).remembered("x", card, 512 * 512) == ("tiles", "wait")
    assert OomFallback(tmp_path, alone).remembered("x", card, 512 * 512) == ()


@pytest.mark.parametrize("card", ["GTX 1060", None])
def test_a_model_larger_than_the_budget_is_not_read_again_for_each_picture(
    card: str | None, tiny_folder: Path, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = PretendMachine(card) if card else MachineWith(None, ram=(1 << 19, 1 << 18))
    gpu.memory = 1 << 22
    manager = PipelineManager([tiny_card(tiny_folder)], machine=machine, budget_bytes=1000 if card else None)
    with manager.lease("tiny"):
        pass
    assert manager.loaded == ("tiny",)


def test_budgets_look_at_what_is_free(tiny_folder: Path) -> None:
    for free, limit in ((11 * GB, 11 * GB * 19 // 20), (2 * GB, 2 * GB * 19 // 20)):
        manager = PipelineManager([tiny_card(tiny_folder)], machine=MachineWith(CARDS["RTX 3060"], free=free))
        manager._resolve(manager.cards["tiny"])
        assert manager._residency.budgets.limit("gpu") == limit
        manager._residency.budgets.keep_free(GB)  # what the run itself takes
        assert manager._residency.budgets.limit("gpu") == limit - GB
    for free, limit in ((24 * GB, 16 * GB), (3 * GB, 3 * GB)):
        manager = PipelineManager([tiny_card(tiny_folder)], machine=MachineWith(None, ram=(32 * GB, free)))
        assert manager._residency.budgets.limit("ram") == limit


def decode_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have autoencoders overflow in float16, and only there."""
    plain = AutoencoderKL.decode

    def loud(vae: Any, z: Any, *args: Any, **kwargs: Any) -> Any:
        return (plain(vae, z, *args, **kwargs)[0] * 1e5 * 1e-5,)

    monkeypatch.setattr(AutoencoderKL, "decode", loud)


@pytest.mark.parametrize("how", ["", WAIT, LAYERS])
def test_a_picture_that_overflows_in_half_precision_is_decoded_once_more(
    how: str, site: Any, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A black picture is no success."""
    decode_loudly(monkeypatch)
    backend = site("RTX 3060")
    if how:
        backend._manager.remember_fallbacks("tiny", 32 * 32, [how])
    for _ in range(2):
        done = last_of(backend, ask())
        assert isinstance(done, Finished), done
        assert pixels(done).std() > 1
        assert any("overflowed in float16, so it computes in float32" in note for note in done.notes)
    monkeypatch.setattr(AutoencoderKL, "decode", lambda *a, **k: (torch.full((1, 3, 32, 32), float("nan")),))
    assert isinstance(last_of(backend, ask()), Failed)


def test_memory_that_runs_out_while_an_autoencoder_is_widened_takes_a_fallback(
    site: Any, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode_loudly(monkeypatch)
    backend = site("RTX 3060")
    gpu.fail("cuda", within="spread.py:widen_autoencoder", after=5)
    done = last_of(backend, ask())
    assert isinstance(done, Finished), done
    assert pixels(done).std() > 1
    assert any("overflowed in float16, so it computes in float32" in note for note in done.notes)
    assert any("Memory ran out" in note and "tiles" in note for note in done.notes)


@pytest.mark.parametrize("place", ["pixels", "latents"])
def test_one_bad_picture_of_several_is_no_black_one(
    place: str, site: Any, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, predict, calls = AutoencoderKL.decode, UNet2DConditionModel.forward, []

    def second_overflows(vae: Any, z: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(z.dtype)
        made = decode(vae, z, *args, **kwargs)[0]
        return (made * (float("inf") if z.dtype == torch.float16 and len(calls) == 2 else 1),)

    def second_is_nan(*args: Any, **kwargs: Any) -> Any:
        made = predict(*args, **kwargs)[0]
        return (torch.cat([made[:1], made[1:] * float("nan")]),)

    backend = site("RTX 3060")
    if place == "latents":
        monkeypatch.setattr(UNet2DConditionModel, "forward", second_is_nan)
        last = last_of(backend, ask(num_images=2, guidance_scale=1.0))
        assert isinstance(last, Failed) and "overflowed" in last.message
        return
    monkeypatch.setattr(AutoencoderKL, "decode", second_overflows)
    # Its previews, which this small model decodes too, come last.
    done = list(backend.submit(ask(num_images=2), watched=False).events())[-1]
    assert isinstance(done, Finished), done
    assert all(picture.std() > 1 for picture in pixels(done)) and any("overflowed" in note for note in done.notes)
    assert calls[:4] == [torch.float16] * 2 + [torch.float32] * 2


@pytest.mark.parametrize("how", ["", LAYERS])
def test_a_pipeline_with_a_loop_of_its_own_decodes_once_more_too(
    how: str, site: Any, gpu: PretendGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, decoded = AutoencoderKL.decode, []

    def loud(vae: Any, z: Any, *args: Any, **kwargs: Any) -> Any:
        decoded.append(z.dtype)
        return (plain(vae, z, *args, **kwargs)[0] * 1e5 * 1e-5,)

    monkeypatch.setattr(AutoencoderKL, "decode", loud)
    card = tiny_card(make("pixart", tmp_path / "pixart"), family="any", prediction_type="own")
    backend, asked = site("RTX 3060", [card]), ask(scheduler="own")
    if how:
        backend._manager.remember_fallbacks("tiny", 32 * 32, [how])
    for dtypes in ([torch.float16, torch.float32], [torch.float32]):
        decoded.clear()
        done = last_of(backend, asked)
        assert isinstance(done, Finished), done
        assert decoded == dtypes and pixels(done).std() > 1
        assert any("overflowed in float16, so it computes in float32" in note for note in done.notes)
    monkeypatch.setattr(AutoencoderKL, "decode", lambda *a, **k: (torch.full((1, 3, 32, 32), float("nan")),))
    assert isinstance(last_of(backend, asked), Failed)


def test_latents_of_such_a_pipeline_that_are_no_numbers_are_no_black_picture(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import PixArtTransformer2DModel

    plain = PixArtTransformer2DModel.forward
    monkeypatch.setattr(PixArtTransformer2DModel, "forward", lambda *a, **k: (plain(*a, **k)[0] * float("nan"),))
    card = tiny_card(make("pixart", tmp_path / "pixart"), family="any", prediction_type="own")
    done = last_of(site("GTX 1060", [card]), ask(scheduler="own"))
    assert isinstance(done, Failed) and "overflowed" in done.message, done
