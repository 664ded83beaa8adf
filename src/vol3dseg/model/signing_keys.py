"""Keys that models are signed with, and those that are trusted: ECDSA on P-256, P-384 or P-521.

The registry of Model Signing v1.0 has no Ed25519. A key is called by the SHA-256 of its public half
in PEM, as `openssl ec -pubout` writes it, which is also what a signature hints at.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vol3dseg.errors import TrustError, reading
from vol3dseg.extras import load_extra
from vol3dseg.files import read_small, remove_ours, write_bytes
from vol3dseg.model import signature_bundle as bundles

PASSPHRASE = "VOL3DSEG_SIGN_PASSPHRASE"  # noqa: S105 - the name of a variable, no secret
_MOST_BYTES = 2**14  # of a key in PEM; P-521 takes 400
_MOST_KEYS = 256  # in all
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}  # by curve
_PUBLIC = "a public key on P-256, P-384 or P-521 in PEM"
_PRIVATE = "a private key on P-256, P-384 or P-521 in PEM"
_MAKE = "make one with openssl (docs/security.md)"
_SUFFIXES = {".pem", ".pub"}  # of keys in a folder
Trusted = str | Path | Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Key:
    """The public half of a key."""

    sha256: str
    public: Any

    @classmethod
    def of(cls, public: Any, path: Path, expected: str) -> "Key":
        """Take a key of the cryptography package, unless the standard has no such."""
        curve = getattr(getattr(public, "curve", None), "name", type(public).__name__)
        if curve not in _HASHES:
            raise TrustError(
                f"is a key of another kind ({curve.strip('_')})",
                where=path,
                expected=expected,
                remedy=_MAKE,
            )
        serial = _crypto("primitives.serialization")
        form = serial.PublicFormat.SubjectPublicKeyInfo
        pem = public.public_bytes(serial.Encoding.PEM, form)
        return cls(hashlib.sha256(pem).hexdigest(), public)

    @property
    def scheme(self) -> Any:
        """ECDSA with the hash that goes with the curve."""
        digest = getattr(_crypto("primitives.hashes"), _HASHES[self.public.curve.name])
        return _crypto("primitives.asymmetric.ec").ECDSA(digest())

    def has_signed(self, content: bytes, signature: bytes) -> bool:
        """Return whether a signature of bytes is by this key."""
        try:
            self.public.verify(signature, content, self.scheme)
        except _errors().InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key that signs models."""

    key: Key
    private: Any

    def signature_of(self, content: bytes, name: str) -> bytes:
        """Return the file that signs a model of one file with these bytes."""
        payload = bundles.statement(content, name)
        signed = self.private.sign(bundles.signed_bytes(payload), self.key.scheme)
        return bundles.bundle(payload, signed, self.key.sha256)


def load_signer(path: str | Path, ask: Callable[[], str] | None = None) -> Signer:
    """Read a private key in PEM.

    Its passphrase, where it has one, is that of the variable VOL3DSEG_SIGN_PASSPHRASE, or else what
    `ask` gives.

    Raises
    ------
    TrustError
        The file is no such key, or its passphrase is another.
    MissingExtraError
        The extra [sign] is not installed.
    """
    path = Path(path)
    content = read_small(path, _MOST_BYTES, TrustError, expected=_PRIVATE, remedy=_MAKE)
    private = _loaded(content, None, path)
    if private is None:  # it has a passphrase
        private = _loaded(content, _passphrase(path, ask), path)
    return Signer(Key.of(private.public_key(), path, _PRIVATE), private)


def signer_of(key: str | Path | Signer | None) -> Signer | None:
    """Return who signs, of a file or as it is; its passphrase is in the environment alone."""
    return load_signer(key) if isinstance(key, str | Path) else key


def written_for(output: Path, signer: Signer | None) -> list[Path]:
    """Return what is written for one model."""
    return [output] if signer is None else [output, bundles.signature_path(output)]


def write_model(path: Path, content: bytes, signer: Signer | None) -> None:
    """Write the file of a model, and its signature beside it; without one, none of ours stays."""
    write_bytes(path, content)
    beside = bundles.signature_path(path)
    if signer is None:
        remove_ours(beside)  # which was of another content
    else:
        write_bytes(beside, signer.signature_of(content, path.name))


def _loaded(content: bytes, passphrase: bytes | None, path: Path) -> Any:
    """Return a private key; None where it needs a passphrase and none is given."""
    found, remedy = "is no private key, or is damaged", _MAKE
    if passphrase is not None:
        found, remedy = "has another passphrase, or is damaged", "give the passphrase of this key"
    try:
        return _crypto("primitives.serialization").load_pem_private_key(content, passphrase)
    except TypeError:  # of a passphrase that is missing
        return None
    except (ValueError, _errors().UnsupportedAlgorithm) as error:
        raise TrustError(found, where=path, expected=_PRIVATE, remedy=remedy) from error


def _passphrase(path: Path, ask: Callable[[], str] | None) -> bytes:
    given = os.environ.get(PASSPHRASE) or (ask() if ask else "")
    if not given:
        raise TrustError(
            "is protected by a passphrase",
            where=path,
            expected=f"it in the variable {PASSPHRASE}, or typed in a terminal",
            remedy="set the variable; it is never an option, which others could read",
        )
    return given.encode()


def load_keys(trusted: Trusted) -> tuple[Key, ...]:
    """Read public keys: files in PEM, and folders, of which each *.pem and *.pub must be one.

    Raises
    ------
    TrustError
        There is none, or a file is no such key.
    MissingExtraError
        The extra [sign] is not installed.
    """
    places = [Path(p) for p in ([trusted] if isinstance(trusted, str | Path) else trusted)]
    files: list[Path] = []
    for place in places:
        found = _keys_in(place) if place.is_dir() else [place]
        if not found:
            raise TrustError(
                "holds no key",
                where=place,
                expected=f"{_PUBLIC}, named .pem or .pub",
                remedy="put the public keys there that you trust",
            )
        files += found
    if len(files) > _MOST_KEYS:
        raise TrustError(
            f"{len(files)} keys to trust",
            expected=f"at most {_MOST_KEYS}",
            remedy="name the keys of those whose models you use",
        )
    return tuple({key.sha256: key for key in map(_public, files)}.values())


def _keys_in(folder: Path) -> list[Path]:
    with reading(folder, TrustError, expected="a folder of public keys"):
        return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)


def _public(path: Path) -> Key:
    remedy = "get it again from whose models you trust"
    content = read_small(path, _MOST_BYTES, TrustError, expected=_PUBLIC, remedy=remedy)
    private, several = b"PRIVATE KEY" in content, content.count(b"-----BEGIN") > 1
    try:
        if private or several:
            raise ValueError
        public = _crypto("primitives.serialization").load_pem_public_key(content)
    except (ValueError, _errors().UnsupportedAlgorithm):
        found = "holds several keys" if several else "is no public key"
        if private:
            found = "is a private key, which nobody but its owner may have"
            remedy = "name its public half, which openssl ec -pubout writes"
        raise TrustError(found, where=path, expected=_PUBLIC, remedy=remedy) from None
    return Key.of(public, path, _PUBLIC)


def trusted_by(keys: Sequence[Key], content: bytes, model: Path) -> str:
    """Return the SHA-256 of the key by which a model is signed.

    `content` is what the file of the model holds, of which nothing has been parsed; only what is
    signed is believed.

    Raises
    ------
    TrustError
        The signature beside the model is missing or none, is by none of these keys, or is not of
        these bytes.
    """
    path = bundles.signature_path(model)
    found = bundles.read_bundle(path)
    payload = bundles.decoded(found.envelope.payload, path)
    signature = bundles.decoded(found.envelope.signatures[0].sig, path)
    signed = bundles.signed_bytes(payload)
    key = next((key for key in keys if key.has_signed(signed, signature)), None)
    if key is None:
        hint = (found.material.public_key and found.material.public_key.hint) or ""
        known = hint in {key.sha256 for key in keys}
        said = "was changed since it was signed" if known else "is signed by a key not trusted"
        named = f"one of the {len(keys)} trusted keys"
        raise TrustError(
            f"{said} ({hint[:64]!r})" if hint else said,
            where=path,
            expected="a signature by " + ("the trusted key" if len(keys) == 1 else named),
            remedy=f"{bundles.REMEDY}, or name its author's key with --trusted",
        )
    bundles.require_signed(payload, content, model, path)
    return key.sha256


def _crypto(module: str) -> Any:
    return load_extra(f"cryptography.hazmat.{module}", "sign")


def _errors() -> Any:
    return load_extra("cryptography.exceptions", "sign")
