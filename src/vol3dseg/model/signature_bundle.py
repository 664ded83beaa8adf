"""What signs a model: a Sigstore bundle that stands beside its file, as `model.onnx.sig`.

It is that of OpenSSF Model Signing v1.0. The bundle holds a DSSE envelope, the envelope an in-toto
statement, and the statement the SHA-256 of the model. What is signed are the bytes of the
statement and its type, not the JSON around them. Other fields than these say nothing here, as the
standard has it.
"""

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from vol3dseg.errors import TrustError
from vol3dseg.files import read_small
from vol3dseg.schema import Frozen, parse_json, quoted

SUFFIX = ".sig"  # of a signature, behind the whole name of the file that it signs
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MOST_BYTES = 2**16  # of a signature; one of a single file takes 1.5 kB
_WANTED = "a signature of OpenSSF Model Signing v1.0, by a key"
REMEDY = "get model and signature again from whom you trust"
_LOOSE = ConfigDict(extra="ignore")  # over what Frozen says; the rest of it holds


class PublicKey(Frozen):
    """By which key a bundle says to be signed; a hint, no more."""

    model_config = _LOOSE
    hint: str | None = None  # SHA-256 of the key in PEM


class Material(Frozen):
    """What a bundle is verified with."""

    model_config = _LOOSE
    public_key: PublicKey | None = Field(None, alias="publicKey")  # none: by a certificate


class Signature(Frozen):
    """One signature of an envelope."""

    model_config = _LOOSE
    sig: str  # base64


class Envelope(Frozen):
    """A DSSE envelope."""

    model_config = _LOOSE
    payload: str  # base64
    payload_type: str = Field(alias="payloadType")
    signatures: tuple[Signature, ...]


class Bundle(Frozen):
    """A Sigstore bundle."""

    model_config = _LOOSE
    media_type: str = Field(alias="mediaType")
    material: Material = Field(alias="verificationMaterial")
    envelope: Envelope = Field(alias="dsseEnvelope")


class Resource(Frozen):
    """A file that is signed; its name says nothing, since files are renamed."""

    model_config = _LOOSE
    algorithm: str
    digest: str


class Predicate(Frozen):
    """Which files are signed."""

    model_config = _LOOSE
    resources: tuple[Resource, ...]


class Subject(Frozen):
    """The model as a whole: the SHA-256 over the digests of its files."""

    model_config = _LOOSE
    digest: dict[str, str]


class Statement(Frozen):
    """An in-toto statement on a model."""

    model_config = _LOOSE
    kind: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(alias="predicateType")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicate: Predicate


def signature_path(model: Path) -> Path:
    """Return where the signature of a model stands."""
    return model.with_name(model.name + SUFFIX)


def read_bundle(path: Path) -> Bundle:
    """Read a signature, of which nothing is believed yet; TrustError if it is none by a key."""
    remedy = "sign it with vol3dseg export-onnx --sign, or ask its author for the signature"
    content = read_small(path, _MOST_BYTES, TrustError, expected=_WANTED, remedy=remedy)
    bundle = parse_json(Bundle, content, path, TrustError, expected=_WANTED, remedy=REMEDY)
    envelope, count = bundle.envelope, len(bundle.envelope.signatures)
    found = ""
    if bundle.media_type != MEDIA_TYPE:
        found = f"is a bundle of the type {quoted(bundle.media_type)}"
    elif bundle.material.public_key is None:
        found = "is signed by a certificate"
    elif envelope.payload_type != PAYLOAD_TYPE:
        found = f"signs something of the type {quoted(envelope.payload_type)}, no model"
    elif count != 1:
        found = f"holds {count} signatures in place of one"
    if found:
        raise TrustError(found, where=path, expected=_WANTED, remedy=REMEDY)
    return bundle


def signed_bytes(payload: bytes) -> bytes:
    """Return the bytes that a key signs: DSSE's encoding of a payload and its type."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def decoded(text: str, path: Path) -> bytes:
    """Return the bytes of base64 in a signature."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # the latter of letters beyond ASCII
        raise TrustError(
            "is damaged (no base64)", where=path, expected=_WANTED, remedy=REMEDY
        ) from error


def require_signed(payload: bytes, content: bytes, model: Path, signature: Path) -> None:
    """Refuse a model whose bytes are not the one file that a verified statement is about."""
    parsed = parse_json(Statement, payload, signature, TrustError, expected=_WANTED, remedy=REMEDY)
    files, digest = parsed.predicate.resources, hashlib.sha256(content)
    found = ""
    if len(files) != 1:
        found = f"signs {len(files)} files, and this model is one"
    elif files[0].algorithm != "sha256":
        found = f"names the model by {quoted(files[0].algorithm)}, not by its SHA-256"
    if found:
        remedy = "sign the file of the model by itself, whole"
        raise TrustError(found, where=signature, expected=_WANTED, remedy=remedy)
    if files[0].digest != digest.hexdigest():
        raise TrustError(
            "is not the file that was signed, or was changed since",
            where=model,
            expected=f"the bytes whose SHA-256 {signature.name} says",
            remedy=REMEDY,
        )
    if parsed.subject[0].digest.get("sha256") != _over(digest.digest()):
        raise TrustError("contradicts itself", where=signature, expected=_WANTED, remedy=REMEDY)


def statement(content: bytes, name: str) -> bytes:
    """Return the statement on a model of one file, as JSON."""
    digest = hashlib.sha256(content)
    said = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": _over(digest.digest())}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            # The file itself, below the path that a verifier is given.
            "resources": [{"name": ".", "algorithm": "sha256", "digest": digest.hexdigest()}],
        },
    }
    return json.dumps(said).encode()


def bundle(payload: bytes, signature: bytes, hint: str) -> bytes:
    """Return the file of a signature; `hint` is the SHA-256 of the public key in PEM."""
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    said = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": envelope,
    }
    return json.dumps(said, indent=1).encode() + b"\n"


def _over(digest: bytes) -> str:
    return hashlib.sha256(digest).hexdigest()
