"""Models that are not signed by a key that is trusted."""

from tests.catalogue import signed
from tests.catalogue.data import as_it_is
from tests.catalogue.row import Group, Row

_WANTED = "expected a signature of OpenSSF Model Signing v1.0, by a key"
_AGAIN = "get model and signature again from whom you trust"


def _row(name: str, given: str, spoil, refused: str) -> Row:
    return Row(name, given, as_it_is, refused, predict=True, needs=("cryptography",), signed=spoil)


ROWS = (
    _row("S1", "a model without a signature", signed.unsigned,
        f"{{folder}}/model.onnx.sig: is missing; {_WANTED}; sign it with vol3dseg export-onnx "
        "--sign, or ask its author for the signature"),
    _row("S2", "one that another key has signed", signed.by_another_key,
        "{folder}/model.onnx.sig: is signed by a key not trusted ('"
        "fc6364e2587f674ec64314d82415c8d91fc8f29e2d501b476a83cef301ecfea9'); expected a signature "
        f"by the trusted key; {_AGAIN}, or name its author's key with --trusted"),
    _row("S3", "one of which a byte was changed", signed.one_byte,
        "{folder}/model.onnx: is not the file that was signed, or was changed since; expected the "
        f"bytes whose SHA-256 model.onnx.sig says; {_AGAIN}"),
    _row("S4", "a signature of something else", signed.of_another_type,
        "{folder}/model.onnx.sig: signs something of the type 'application/json', no model; "
        f"{_WANTED}; {_AGAIN}"),
    _row("S5", "a signature of 128 kB", signed.huge,
        f"{{folder}}/model.onnx.sig: is too large; {_WANTED}, of at most 65536 bytes; sign it with "
        "vol3dseg export-onnx --sign, or ask its author for the signature"),
    _row("S6", "a web page named .sig", signed.a_page,
        "{folder}/model.onnx.sig: is damaged or of another version (not valid JSON (Expecting "
        f"value, line 1)); {_WANTED}; {_AGAIN}"),
    _row("S7", "a private key in place of a public one", signed.trusting_a_private_key,
        "{folder}/trusted.pem: is a private key, which nobody but its owner may have; expected a "
        "public key on P-256, P-384 or P-521 in PEM; name its public half, which openssl ec "
        "-pubout writes"),
)  # fmt: skip
SIGNED = Group(
    "Signed models",
    "Where `predict` is given `--trusted trusted.pem`; nothing of a model is parsed then before "
    "its signature is verified ([security.md](security.md)).",
    ROWS,
)
