"""The options --sign and --trusted."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vol3dseg.cli.options import PathType

if TYPE_CHECKING:
    from vol3dseg.model.signing_keys import Signer


def sign_option() -> Callable[[Any], Any]:
    """Return the option --sign; the command gets `key`, which `signer_of` reads."""
    return click.option(
        "--sign",
        "key",
        type=PathType,
        metavar="KEY",
        help="A private key in PEM, P-256, P-384 or P-521: OUTPUT.sig says that it has signed "
        "OUTPUT. Its passphrase is $VOL3DSEG_SIGN_PASSPHRASE, or asked for. Needs [sign].",
    )


def signer_of(key: Path | None) -> "Signer | None":
    """Return who signs; a passphrase is asked for where somebody can answer."""
    from vol3dseg.model.signing_keys import load_signer

    return load_signer(key, _ask if sys.stdin.isatty() else None) if key else None


def _ask() -> str:
    return str(click.prompt("passphrase of the key", hide_input=True, err=True))


def report_signature(file: Path, signer: "Signer | None") -> None:
    """Say by which key a file is signed."""
    if signer:
        click.echo(f"{file}.sig: signed by the key {signer.key.sha256}")


def trusted_option() -> Callable[[Any], Any]:
    """Return the option --trusted."""
    return click.option(
        "--trusted",
        type=PathType,
        multiple=True,
        metavar="KEYS",
        help="Refuse a model unless this public key, or one in this folder, has signed it; may be "
        "given again. Needs [sign].",
    )
