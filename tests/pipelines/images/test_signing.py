"""Signed pictures: what is signed, that it is the last thing written, and what becomes of it."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from history.store import History
from pipelines.images import signing
from pipelines.images.file_texts import png_chunks, read_texts
from pipelines.images.png import record_of
from pipelines.images.settings_in_files import FORMATS, encode
from pipelines.images.signing import PictureSigner, SigningFailed, read_signer
from pipelines.jobs.users import OWNER
from tests.support.history_entries import ask, keep, picture

INSTALLED = importlib.util.find_spec("c2pa") is not None
needs_c2pa = pytest.mark.skipif(not INSTALLED, reason="c2pa-python is an extra")


def certificates() -> tuple[bytes, bytes]:
    """A chain of two certificates and the signer's key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    root, mine = (x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)]) for name in ("Root", "Me"))
    made = []
    for k, subject in enumerate((root, mine)):
        usage = x509.KeyUsage(k == 1, False, False, False, False, k == 0, False, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root)
            .public_key(keys[k].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=30))
            .add_extension(x509.BasicConstraints(k == 0, None), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[k].public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False)
        )
        if k:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key = keys[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return made[1] + made[0], key


@pytest.fixture(scope="module")
def signer() -> PictureSigner:
    return PictureSigner(*certificates())


def said(data: bytes) -> Mapping[str, Any]:
    """What a reader of C2PA says of a file."""
    import c2pa

    reader = c2pa.Reader(signing.media_type(data), io.BytesIO(data))
    found = json.loads(reader.json())
    active = found["manifests"][found["active_manifest"]]
    actions = next(each for each in active["assertions"] if each["label"].startswith("c2pa.actions"))
    source = actions["data"]["actions"][0]["digitalSourceType"].rpartition("/")[2]
    return {"state": reader.get_validation_state(), "source": source, "by": active["signature_info"]["issuer"]}


@needs_c2pa
@pytest.mark.parametrize("form", FORMATS)
def test_a_signed_file_is_valid_and_keeps_its_settings(signer: PictureSigner, form: str) -> None:
    request = ask("a fox", init={"image": "0" * 32, "strength": 0.5})
    data = signer(encode(picture(), form, request, 7))
    assert said(data) == {"state": "Valid", "source": "compositeWithTrainedAlgorithmicMedia", "by": "Me"}
    record = record_of(read_texts(data))
    assert record is not None and record.request == request


@needs_c2pa
def test_the_history_signs_what_it_keeps_and_what_it_strips(signer: PictureSigner, tmp_path: Path) -> None:
    history = History(tmp_path, sign=signer)
    history.open(background=False)
    made = keep(history, "secret words")
    data = history.path(made).read_bytes()
    assert said(data)["state"] == "Valid" and said(data)["source"] == "trainedAlgorithmicMedia"
    found = history.saved(OWNER, made, settings=False)
    assert found is not None and b"secret" not in found[1] and said(found[1])["state"] == "Valid"
    # A picture that was imported keeps the manifest that came with it.
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "theirs.png").write_bytes(data)
    history.importer(OWNER).run(folder)
    (imported,) = [each.id for each in history.catalogue.all(OWNER) if each.id != made]
    found = history.saved(OWNER, imported, settings=False)
    assert found is not None and manifest_of(found[1]) == manifest_of(data) != b""
    assert history.path(imported).read_bytes() == data
    history.close()


def manifest_of(data: bytes) -> bytes:
    return b"".join(body for kind, body in png_chunks(data) if kind == b"caBX")


def test_without_a_signer_a_manifest_that_no_longer_fits_goes(tmp_path: Path) -> None:
    history = History(tmp_path, sign=lambda data: data[:33] + b"\0\0\0\1caBXx\0\0\0\0" + data[33:])
    history.open(background=False)
    made = keep(history)
    assert manifest_of(history.path(made).read_bytes()) == b"x"
    history._sign = None
    found = history.saved(OWNER, made, settings=False)
    assert found is not None and manifest_of(found[1]) == b""
    history.close()


def test_a_signature_that_fails_costs_no_picture(tmp_path: Path) -> None:
    def fail(data: bytes) -> bytes:
        raise SigningFailed("the certificate has ended")

    history = History(tmp_path, sign=fail)
    history.open(background=False)
    made = keep(history, notes=("Cut.",))
    detail = history.detail(OWNER, made)
    assert detail is not None and detail.request == ask() and history.path(made).is_file()
    assert detail.notes == ("Cut.", "This picture is not signed: the certificate has ended.")
    history.close()


@needs_c2pa
def test_a_wrong_key_is_known_at_once(tmp_path: Path) -> None:
    certificate, _ = certificates()
    with pytest.raises(SigningFailed, match="cannot be used"):
        PictureSigner(certificate, b"no key")
    with pytest.raises(SigningFailed, match="cannot be used"):
        PictureSigner(b"no certificate", certificates()[1])


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(SigningFailed, match="cert.pem cannot be read"):
        read_signer(tmp_path / "cert.pem", tmp_path / "key.pem", "es256")


@pytest.mark.skipif(INSTALLED, reason="it is installed")
def test_without_the_extra_it_is_said_how_to_get_it() -> None:
    with pytest.raises(SigningFailed, match=r"requirements-c2pa\.txt"):
        PictureSigner(b"", b"")
