"""The mark that a model made a picture: in every kind of file, in the place where the kind's readers look."""

from __future__ import annotations

import io
from typing import Any

import av
import pytest
from PIL import Image

from pipelines.images.provenance import add_xmp_to_gif, add_xmp_to_mp4, digital_source_type, xmp_packet
from pipelines.jobs.previews import FINAL_SIDE, final_bytes
from pipelines.request import make_request
from pipelines.trace.export import EXPORTS, export
from tests.support.export_frames import make_trace, noise, shades

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MADE, COMPOSITE = VOCABULARY + "trainedAlgorithmicMedia", VOCABULARY + "compositeWithTrainedAlgorithmicMedia"
UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
ASKED = {
    "model": "tiny", "prompt": "a fox", "scheduler": "ddim", "num_inference_steps": 2, "guidance_scale": 1.0, "seed": 1,
    "width": 32, "height": 32,
}  # fmt: skip
PICTURE = {"image": "0" * 32}


def gif_blocks(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """What a reader finds that knows nothing of XMP: (label, first sub-block, the others) of each extension.

    By the GIF89a specification, sections 15 to 26; it must end exactly at the trailer.
    """
    place = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    found = []
    while data[place] != 0x3B:
        label = None
        if data[place] == 0x21:
            label, place = data[place + 1], place + 2
        else:
            assert data[place] == 0x2C
            flags = data[place + 9]
            place += 11 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
        parts = []
        while data[place]:
            parts.append(data[place + 1 : place + 1 + data[place]])
            place += 1 + data[place]
        place += 1
        if label is not None:
            found.append((label, parts[0] if parts else b"", b"".join(parts[1:])))
    assert place == len(data) - 1
    return found


def mp4_boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and content of the boxes of the outermost level (ISO/IEC 14496-12, 4.2)."""
    place, found = 0, []
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        assert size >= 8
        found.append((data[place + 4 : place + 8], data[place + 8 : place + size]))
        place += size
    assert place == len(data)
    return found


def mark_of(kind: str, data: bytes) -> str:
    if kind == "mp4":
        (box,) = [inside for name, inside in mp4_boxes(data) if name == b"uuid"]
        assert box[:16] == UUID
        return box[16:].decode()
    if kind == "gif":
        start = data.index(b"XMP DataXMP") + 11
        return data[start : data.index(b'<?xpacket end="w"?>') + 19].decode()
    with Image.open(io.BytesIO(data)) as image:
        found = image.info["xmp"]
    return found if isinstance(found, str) else found.decode()


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.parametrize("steps", [1, 7])
def test_each_file_format_has_the_xmp(kind: str, steps: int) -> None:
    trace = make_trace(steps=steps)
    mark = mark_of(kind, export(kind, shades(steps), trace, 0, "lens"))
    assert mark == xmp_packet(trace.request) and f'DigitalSourceType="{MADE}"' in mark


@pytest.mark.parametrize("kind", EXPORTS)
def test_with_an_input_image_the_xmp_says_composite(kind: str) -> None:
    trace = make_trace(init={**PICTURE, "strength": 0.5}, num_images=1)
    assert f'"{COMPOSITE}"' in mark_of(kind, export(kind, shades(), trace, 0, "lens"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, MADE),
        ({"init": {**PICTURE, "strength": 0.5}}, COMPOSITE),
        ({"reference": {**PICTURE, "adapter": "plus"}}, COMPOSITE),
        ({"controls": ({**PICTURE, "net": "canny"},)}, COMPOSITE),
    ],
)
def test_every_way_in_for_a_picture_counts(given: dict[str, Any], expected: str) -> None:
    assert digital_source_type(make_request(**ASKED, **given)) == expected


def test_a_reader_that_knows_no_xmp_finds_its_way_through_the_gif() -> None:
    data = export("gif", noise(6, 64), make_trace(), 0, "lens")
    blocks = gif_blocks(data)
    assert [name for label, name, _ in blocks if label == 0xFF] == [b"XMP DataXMP", b"NETSCAPE2.0"]
    assert sum(label == 0xF9 for label, _, _ in blocks) == 6
    with av.open(io.BytesIO(data)) as stage:
        assert sum(1 for _ in stage.decode(video=0)) == 6


@pytest.mark.parametrize("length", range(250, 520, 9))
def test_wherever_the_jumps_land_they_come_out_at_the_end(length: int) -> None:
    plain = io.BytesIO()
    Image.new("P", (3, 3)).save(plain, "GIF")
    blocks = gif_blocks(add_xmp_to_gif(plain.getvalue(), bytes(32 + i * 7 % 96 for i in range(length))))
    assert [name for label, name, _ in blocks if label == 0xFF] == [b"XMP DataXMP"]


@pytest.mark.parametrize("put", [add_xmp_to_gif, add_xmp_to_mp4])
@pytest.mark.parametrize("data", [b"", b"GIF", b"RIFF" + bytes(60)])
def test_other_bytes_are_refused(put: Any, data: bytes) -> None:
    with pytest.raises(ValueError, match="These bytes are no"):
        put(data, b"mark")


@pytest.mark.parametrize("side", [FINAL_SIDE, FINAL_SIDE + 64])
def test_the_finished_picture_on_the_page_has_the_xmp(side: int) -> None:
    request = make_request(**ASKED)
    data = final_bytes(Image.new("RGB", (side, side), "red"), xmp_packet(request))
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == ("PNG" if side <= FINAL_SIDE else "JPEG")
    assert MADE in mark_of("picture", data)
