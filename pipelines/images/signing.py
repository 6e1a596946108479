"""Signing pictures with a user's own certificate: a C2PA manifest, added as the last thing that is written into a file.

C2PA, "Technical Specification 2.1"; the library is an extra (``requirements-c2pa.txt``).  No network is used.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.images.file_bounds import JPEG_HEAD, PNG_HEAD
from pipelines.images.provenance import SOURCE, TRAINED
from pipelines.images.settings_in_files import source_type_of

# A picture's file -> the same with a manifest; raises SigningFailed.
Sign = Callable[[bytes], bytes]
ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
GENERATOR = "Diffusion Playground"
MAX_KEY_BYTES = 2**20
NOT_INSTALLED = "c2pa-python is not installed; run pip install -r requirements-c2pa.txt"
# A picture that cannot be signed is kept all the same.
NOT_SIGNED = "This picture is not signed: {reason}."


class SigningFailed(RuntimeError):
    """A file or a certificate cannot be used for signing; the message is one sentence."""


class PictureSigner:
    """Signs pictures; see ``Sign``.  Thread-safe.

    Args:
        certificate: PEM, the signer's certificate and then those that vouch for it, but for the root.
        key: PEM, the private key.
        algorithm: one of ``ALGORITHMS``, which must fit the key.

    Raises:
        SigningFailed: if the library is missing or the key does not fit.
    """

    def __init__(self, certificate: bytes, key: bytes, algorithm: str = ALGORITHMS[0]) -> None:
        try:
            import c2pa
        except (ImportError, OSError) as error:
            raise SigningFailed(NOT_INSTALLED) from error
        self._c2pa: Any = c2pa
        self._info = (algorithm.encode(), certificate, key)
        # Once at the start, so that a wrong key is known before the first picture.
        self(_smallest_png())

    def __call__(self, data: bytes) -> bytes:
        """The file with a manifest that says what its XMP says: a model made it, or changed a picture."""
        c2pa, kind, out = self._c2pa, media_type(data), io.BytesIO()
        try:
            algorithm, certificate, key = self._info
            info = c2pa.C2paSignerInfo(alg=algorithm, sign_cert=certificate, private_key=key, ta_url=None)
            context = c2pa.Context(c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}}))
            builder = c2pa.Builder(json.dumps(manifest(kind, source_type_of(data) or TRAINED)), context)
            builder.sign(c2pa.Signer.from_info(info), kind, io.BytesIO(data), out)
        except c2pa.C2paError as error:
            raise SigningFailed(f"the certificate or its key cannot be used ({str(error)[:200]})") from error
        return out.getvalue()


def read_signer(certificate: Path, key: Path, algorithm: str) -> PictureSigner:
    """The signer of two files; raises SigningFailed."""
    parts = []
    for path in (certificate, key):
        try:
            with path.open("rb") as file:
                parts.append(file.read(MAX_KEY_BYTES))
        except OSError as error:
            raise SigningFailed(f"{path} cannot be read ({error.strerror})") from error
    return PictureSigner(parts[0], parts[1], algorithm)


def manifest(kind: str, source_type: str) -> dict[str, Any]:
    """What is signed: who wrote the file, and how it came to be.

    Args:
        kind: the media type.
        source_type: the last name of IPTC's digital source type.
    """
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE + source_type}
    return {
        "claim_generator_info": [{"name": GENERATOR}],
        "format": kind,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def media_type(data: bytes) -> str:
    """The media type of a PNG, JPEG or WebP."""
    return "image/png" if data.startswith(PNG_HEAD) else "image/jpeg" if data.startswith(JPEG_HEAD) else "image/webp"


def _smallest_png() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    return file.getvalue()
