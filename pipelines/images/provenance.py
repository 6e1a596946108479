"""Provenance: metadata that says that a model made an image, in each file format that the program writes.

IPTC's ``DigitalSourceType`` as XMP, which social networks, archives and search engines read.  Where each container
holds XMP: Adobe, "XMP Specification Part 3: Storage in Files" (GIF 1.1.2, MPEG-4 1.3.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest

# The last names of the digital source types that pictures have here.
TRAINED, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_RDF_END = "</rdf:RDF>"
_DESCRIPTION = (
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{source}"/>'
)
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'{_DESCRIPTION}{_RDF_END}</x:xmpmeta><?xpacket end="w"?>'
)
# The "magic trailer" of the XMP specification: a reader that takes the packet for GIF sub-blocks jumps by each byte's
# value, and from any of these 257 bytes it ends at the terminating zero.
_TRAILER = bytes([1, *range(255, -1, -1), 0])
_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")


def digital_source_type(request: GenerationRequest) -> str:
    """The URL of IPTC's digital source type: a composite if the request has an input image."""
    given = request.init is not None or request.reference is not None or bool(request.controls)
    return SOURCE + (COMPOSITE if given else TRAINED)


def xmp_packet(request: GenerationRequest) -> str:
    """The XMP packet of a request's images."""
    return _XMP.format(source=digital_source_type(request))


def xmp_of_source(source_type: str) -> str:
    """The XMP packet with a digital source type by its last name, letters and digits alone."""
    return _XMP.format(source=SOURCE + "".join(filter(str.isalnum, source_type)))


def with_source(xmp: str, source_type: str) -> str:
    """Another program's XMP packet with a digital source type, which stays if it says one; one of its own for none."""
    if SOURCE in xmp:
        return xmp
    before, end, after = xmp.rpartition(_RDF_END)
    if not end:
        return xmp_of_source(source_type)
    return before + _DESCRIPTION.format(source=SOURCE + "".join(filter(str.isalnum, source_type))) + end + after


def add_xmp_to_gif(data: bytes, xmp: bytes) -> bytes:
    """A GIF with the packet as its application extension "XMP DataXMP", before the first frame.

    Raises:
        ValueError: if the bytes are no GIF.
    """
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 13:
        raise ValueError("These bytes are no GIF.")
    flags = data[10]
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    block = b"\x21\xff\x0bXMP DataXMP" + xmp + _TRAILER
    # Extensions need version 89a.
    return b"GIF89a" + data[6:place] + block + data[place:]


def add_xmp_to_mp4(data: bytes, xmp: bytes) -> bytes:
    """An MP4 with the packet in a ``uuid`` box at the end, so that no offset inside the file changes.

    Raises:
        ValueError: if the bytes are no MP4.
    """
    if data[4:8] != b"ftyp":
        raise ValueError("These bytes are no MP4.")
    return data + (8 + len(_UUID) + len(xmp)).to_bytes(4, "big") + b"uuid" + _UUID + xmp
