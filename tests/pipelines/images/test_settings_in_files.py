"""Settings in PNG, JPEG and WebP, and files without them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from pipelines.images.file_texts import png_chunks, read_texts
from pipelines.images.png import read_record, read_request, record_of
from pipelines.images.settings_in_files import (
    FORMATS,
    encode,
    encode_without_settings,
    source_type_of,
    turned_exif,
    without_settings,
)
from pipelines.request import Fork, GenerationRequest, InvalidRequest, TypedPrompt, make_request, replaced

ID = "0123456789abcdef" * 2
TRAINED, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
prompts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60)
weights = st.floats(0, 1.5, allow_nan=False)
# Fields that the requests of the property test had.
seen = set[str]()


def picture(size: tuple[int, int] = (40, 24)) -> Image.Image:
    return Image.effect_noise(size, 60).convert("RGB")


def ask(prompt: str = "a fox, Größe 狐", **changes) -> GenerationRequest:
    values = {
        "model": "pocket", "prompt": prompt, "width": 40, "height": 24, "scheduler": "dpmpp_2m_karras",
        "num_inference_steps": 25, "guidance_scale": 4.5, "seed": 7,
    }  # fmt: skip
    return make_request(**{**values, **changes})


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_each_format_says_how_it_was_made(form: str, tmp_path: Path) -> None:
    request = ask(negative_prompt="blurry")
    path = tmp_path / f"a{FORMATS[form]}"
    path.write_bytes(encode(picture(), form, request, 7, {"seconds": 2}))
    record = read_record(path)
    assert (record.request, record.seed, record.facts) == (request, 7, {"seconds": 2}) and read_request(path) == request
    texts = read_texts(path.read_bytes())
    parameters = texts.texts.get("parameters") or texts.user_comment
    assert parameters.startswith("a fox, Größe 狐\nNegative prompt: blurry\nSteps: 25, Sampler: DPM++ 2M Karras, CFG")
    assert source_type_of(path.read_bytes()) == TRAINED
    with Image.open(path) as image:
        assert image.size == (40, 24) and image.format == form.upper()


sampling = st.fixed_dictionaries(
    {
        "scheduler": st.sampled_from(["ddim", "euler_a", "unipc"]), "num_inference_steps": st.integers(1, 150),
        "guidance_scale": st.floats(0, 30, allow_nan=False), "seed": st.integers(0, 2**63 - 9),
        "num_images": st.integers(1, 4), "width": st.integers(8, 256), "height": st.integers(8, 256),
        "model": st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
        "prompt_syntax": st.sampled_from(["compel", "a1111"]),
    }
)  # fmt: skip
extras = st.fixed_dictionaries(
    {},
    optional={
        "init": st.one_of(
            st.fixed_dictionaries({"image": st.just(ID), "strength": st.floats(0, 1)}),
            st.just({"image": ID, "strength": 1, "noise_only": True}),
            st.fixed_dictionaries({
                "image": st.just(ID), "strength": st.floats(0, 1), "mask": st.just(ID[::-1]),
                "feather": st.integers(0, 64), "only_masked": st.booleans(), "padding": st.integers(0, 256),
            }),
        ),
        # One of the two at most.
        "ways": st.one_of(
            st.fixed_dictionaries({"variation": st.fixed_dictionaries(
                {"seed": st.integers(0, 2**60), "strength": st.floats(0, 1)})}),
            st.fixed_dictionaries({"interpolation": st.fixed_dictionaries(
                {"seed": st.none() | st.integers(0, 2**60), "prompt": prompts})}),
        ),
        "others": st.lists(prompts, min_size=3, max_size=3),
        "typed": st.fixed_dictionaries({
            "prompt": prompts, "negative_prompt": prompts, "styles": st.lists(prompts, max_size=3).map(tuple),
            "drawn": st.lists(st.lists(prompts, max_size=2).map(tuple), max_size=3).map(tuple),
            "negative_drawn": st.lists(prompts, max_size=2).map(tuple),
        }),
        "loras": st.tuples(st.fixed_dictionaries({"name": st.just("ink, wash"), "weight": st.floats(-10, 10)})),
        "controls": st.tuples(
            st.fixed_dictionaries({"net": st.just("edges"), "image": st.just(ID), "weight": st.floats(0, 2),
                                   "kind": st.sampled_from(["map", "canny", "depth", "pose"]),
                                   "start": st.floats(0, 0.4), "end": st.floats(0.5, 1)})
        ),
        "reference": st.fixed_dictionaries({"adapter": st.just("plus"), "image": st.just(ID), "weight": weights}),
        "left": st.integers(0, 3),
    },
)  # fmt: skip


VALUES = {
    "scheduler": "ddim", "num_inference_steps": 9, "guidance_scale": 4.5, "seed": 7, "num_images": 2, "width": 40,
    "height": 24, "model": "pocket", "prompt_syntax": "compel",
}  # fmt: skip
# Each field of a request at least once, whatever is drawn.
NO_LUCK: tuple[dict, ...] = (
    {"ways": {"interpolation": {"seed": 5, "prompt": "a cat"}}},
    {"ways": {"variation": {"seed": 5, "strength": 0.3}}, "others": ["b", "c", "d"]},
    {"typed": {"prompt": "__animal__", "negative_prompt": "", "styles": ("ink",), "drawn": (("fox",),),
               "negative_drawn": ()}},
    {"init": {"image": ID, "strength": 0.5}, "loras": ({"name": "ink", "weight": 0.5},), "left": 0,
     "controls": ({"net": "edges", "image": ID, "weight": 1.0, "kind": "map", "start": 0.0, "end": 1.0},),
     "reference": {"adapter": "plus", "image": ID, "weight": 0.5}},
)  # fmt: skip


@example("a fox", "dull", VALUES, NO_LUCK[0], "png")
@example("a fox", "dull", VALUES, NO_LUCK[1], "png")
@example("a fox", "dull", VALUES, NO_LUCK[2], "png")
@example("a fox", "dull", VALUES, NO_LUCK[3], "png")
@given(prompt=prompts, negative=prompts, values=sampling, more=extras, form=st.sampled_from(sorted(FORMATS)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_field_and_prompt_comes_back(prompt: str, negative: str, values: dict, more: dict, form: str) -> None:
    more = dict(more)
    others, ways, left = more.pop("others", None), more.pop("ways", {}), more.pop("left", None)
    if others and "interpolation" not in ways:
        more["prompts"] = (prompt, *others)[: values["num_images"]]
    try:
        request = make_request(prompt=prompt, negative_prompt=negative, **values, **more, **ways)
        if left is not None:
            request = replaced(request, fork=Fork(step=left, original=request))
    except InvalidRequest:
        return
    seen.update(name for name, value in request if value not in (None, (), ""))
    record = record_of(read_texts(encode(picture((8, 8)), form, request, request.sampling.seed, {"picture": 0})))
    assert record is not None and record.request == request and record.seed == request.sampling.seed


def test_no_field_was_left_out() -> None:
    """Of the test above; a new field must be given to it."""
    if seen:
        assert seen == set(GenerationRequest.model_fields)


@pytest.mark.parametrize("form", FORMATS)
def test_the_longest_prompts_fit_into_every_format(form: str) -> None:
    long = "\U0001f98a" * 2000
    request = ask(long, negative_prompt=long, num_images=2, interpolation={"prompt": long, "seed": 1})
    record = record_of(read_texts(encode(picture(), form, request, 7)))
    assert record is not None and record.request == request


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("letter", ["\u72d0", "\U0001f98a", '"'])
def test_the_longest_requests_fit_into_every_format(form: str, letter: str) -> None:
    texts = [f"{k}{letter * 1999}" for k in range(8)]
    typed = TypedPrompt(
        prompt=letter * 2000, negative_prompt=letter * 2000, drawn=tuple((letter * 200,) for _ in texts)
    )
    original = ask(texts[0], negative_prompt=letter * 2000, num_images=8, prompts=tuple(texts), typed=typed)
    for fork in (None, Fork(run="", step=1, original=original)):
        request = replaced(original, fork=fork)
        data = encode(picture(), form, request, 9, {"picture": 2})
        record = record_of(texts_of := read_texts(data))
        assert record is not None and (record.request, record.seed, record.place) == (request, 9, 2)
        assert (texts_of.texts.get("parameters") or texts_of.user_comment).startswith(f"2{letter}")
        assert source_type_of(data) == TRAINED
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (40, 24)
        assert (
            letter.encode() * 9 not in without_settings(data) and record_of(read_texts(without_settings(data))) is None
        )


@pytest.mark.parametrize("form", FORMATS)
def test_without_settings_nothing_is_left_but_pixels_and_the_mark(form: str) -> None:
    request = ask("secret words", init={"image": ID, "strength": 0.5})
    data = encode(picture(), form, request, 7, {"seconds": 2})
    plain = without_settings(data)
    for secret in (b"secret", "secret".encode("utf-16-be"), b"diffusion_playground", b"Steps", b"pocket"):
        assert secret not in plain
    assert source_type_of(plain) == COMPOSITE and record_of(read_texts(plain)) is None
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(plain)) as after:
        assert before.tobytes() == after.tobytes() and after.format == form.upper()
    assert without_settings(plain) == plain


@pytest.mark.parametrize("form", FORMATS)
def test_pixels_alone_are_written_with_the_mark_too(form: str) -> None:
    data = encode_without_settings(picture(), form)
    assert source_type_of(data) == TRAINED and record_of(read_texts(data)) is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_of_another_program_loses_its_texts_and_gains_the_mark(form: str) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "secret"
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "secret", zip=True)
    info.add_text("Software", "digitalsourcetype/digitalCapture secret")
    options = {"pnginfo": info} if form == "PNG" else {"exif": exif.tobytes()}
    if form == "JPEG":
        options["comment"] = b"secret"
    picture().save(file, form, icc_profile=profile, **options)
    plain = without_settings(file.getvalue())
    assert b"secret" not in plain and source_type_of(plain) == TRAINED
    with Image.open(io.BytesIO(plain)) as after, Image.open(io.BytesIO(file.getvalue())) as before:
        assert after.tobytes() == before.tobytes() and after.info["icc_profile"] == profile
        assert form != "JPEG" or after.getexif().get(0x0112) == 6


def test_a_signed_manifest_is_left_alone() -> None:
    data = encode(picture(), "png", ask(), 7)
    chunk = b"\0\0\0\x05caBX12345" + (0x9AE0DAAF).to_bytes(4, "big")
    signed = data[:33] + chunk + data[33:]
    assert (b"caBX", b"12345") in list(png_chunks(without_settings(signed)))


def test_a_prompt_that_imitates_a_mark_changes_nothing() -> None:
    data = encode(picture(), "png", ask("digitalsourcetype/digitalCapture"), 7)
    assert source_type_of(without_settings(data)) == TRAINED


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"\x89PNG"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="WebP"):
        without_settings(data)


def test_an_orientation_alone_is_an_exif_segment() -> None:
    exif = Image.Exif()
    exif.load(turned_exif(8))
    assert exif[0x0112] == 8
