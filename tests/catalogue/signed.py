"""A signed model beside a data set, and ways to spoil it."""

import json
from pathlib import Path

TRUSTED = "trusted.pem"
_OWN, _OTHER = 4711, 4712  # keys that are the same in every run


def sign(model: Path, folder: Path) -> Path:
    """Copy a model into a folder, sign it there, and put the public key beside it."""
    copy = folder / "model.onnx"
    copy.write_bytes(model.read_bytes())
    _sign(copy, _OWN)
    return copy


def _sign(model: Path, number: int) -> None:
    from cryptography.hazmat.primitives import serialization as serial
    from cryptography.hazmat.primitives.asymmetric import ec

    from vol3dseg.model.signing_keys import load_signer

    private, pem = ec.derive_private_key(number, ec.SECP256R1()), serial.Encoding.PEM
    secret = model.with_name("secret.pem")
    lock, form = serial.NoEncryption(), serial.PublicFormat.SubjectPublicKeyInfo
    secret.write_bytes(private.private_bytes(pem, serial.PrivateFormat.PKCS8, lock))
    if number == _OWN:
        model.with_name(TRUSTED).write_bytes(private.public_key().public_bytes(pem, form))
    _beside(model).write_bytes(load_signer(secret).signature_of(model.read_bytes(), model.name))


def _beside(model: Path) -> Path:
    return model.with_name("model.onnx.sig")


def unsigned(model: Path) -> None:
    _beside(model).unlink()


def by_another_key(model: Path) -> None:
    _sign(model, _OTHER)


def one_byte(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-1] + b"?")


def of_another_type(model: Path) -> None:
    said = json.loads(_beside(model).read_text())
    said["dsseEnvelope"]["payloadType"] = "application/json"
    _beside(model).write_text(json.dumps(said))


def huge(model: Path) -> None:
    _beside(model).write_bytes(b" " * 2**17)


def a_page(model: Path) -> None:
    _beside(model).write_bytes(b"<!DOCTYPE html><title>Not found</title>")


def trusting_a_private_key(model: Path) -> None:
    model.with_name(TRUSTED).write_bytes(model.with_name("secret.pem").read_bytes())
