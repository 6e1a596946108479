"""The mark that says that a model made a picture, in each kind of file that leaves the program.

IPTC's ``DigitalSourceType`` as XMP: what feeds, archives and search engines look for.  Where each container keeps XMP:
Adobe, "XMP Specification Part 3: Storage in Files" (GIF 1.1.2, MPEG-4 1.3.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest

_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{source}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
# A reader that takes the packet for a chain of GIF's sub-blocks jumps by each byte's value; wherever it lands in
# these 257 bytes, it comes out at the zero that ends the chain.
_TRAILER = bytes([1, *range(255, -1, -1), 0])
_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")


def source(request: GenerationRequest) -> str:
    """IPTC's word for where a picture comes from, as an address: a composite if any picture went in."""
    given = request.init is not None or request.reference is not None or bool(request.controls)
    return _SOURCE + ("compositeWithTrainedAlgorithmicMedia" if given else "trainedAlgorithmicMedia")


def xmp(request: GenerationRequest) -> str:
    """The XMP packet of a request's pictures."""
    return _XMP.format(source=source(request))


def mark_gif(data: bytes, mark: bytes) -> bytes:
    """A GIF with the packet as its application extension "XMP DataXMP", before the first frame.

    Raises:
        ValueError: if the bytes are no GIF.
    """
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 13:
        raise ValueError("These bytes are no GIF.")
    flags = data[10]
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    block = b"\x21\xff\x0bXMP DataXMP" + mark + _TRAILER
    # Extensions came with the version of 1989.
    return b"GIF89a" + data[6:place] + block + data[place:]


def mark_mp4(data: bytes, mark: bytes) -> bytes:
    """An MP4 with the packet in a ``uuid`` box behind all others, where no offset inside the file changes.

    Raises:
        ValueError: if the bytes are no MP4.
    """
    if data[4:8] != b"ftyp":
        raise ValueError("These bytes are no MP4.")
    return data + (8 + len(_UUID) + len(mark)).to_bytes(4, "big") + b"uuid" + _UUID + mark
