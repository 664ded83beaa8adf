"""Keys, and models that are signed with them."""

import pytest

from vol3dseg.model.signing_keys import load_signer, write_model


def write_keys(folder, name="key", private=None, passphrase=None):
    """Write both halves of a key, and return where they are; P-256 unless one is given."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    private = private or ec.generate_private_key(ec.SECP256R1())
    lock = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase)
    pem = serialization.Encoding.PEM
    secret, public = folder / f"{name}.key", folder / f"{name}.pem"
    secret.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(private.public_key().public_bytes(pem, form))
    return secret, public


def write_signed(path, key):
    """Sign a model that is there."""
    content = path.read_bytes()
    path.unlink()
    write_model(path, content, load_signer(key))
