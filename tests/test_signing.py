"""A signature beside a model: whose it is, and all that is refused before the model is parsed."""

import base64
import hashlib
import json
import os

import pytest
from click.testing import CliRunner

from tests.keys import write_keys, write_signed
from tests.monai_bundles import make_bundle
from tests.nnunet_folders import make_model
from vol3dseg import describe, load_predictor
from vol3dseg.cli.main import cli
from vol3dseg.errors import TrustError
from vol3dseg.inference.predicting import predict
from vol3dseg.model import file_check, model_file, signature_bundle
from vol3dseg.model.signing_keys import PASSPHRASE, load_keys, load_signer, write_model, written_for

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

pytestmark = pytest.mark.hostile

CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path)


@pytest.fixture
def signed(model_path, keys):
    """A model with its signature beside it."""
    write_signed(model_path, keys[0])
    return model_path


def beside(path):
    return path.with_name(path.name + ".sig")


def changed(path, change):
    """Change what a signature says, around the bytes that are signed."""
    said = json.loads(beside(path).read_text())
    change(said)
    beside(path).write_text(json.dumps(said))


def restated(path, key, change, model=None):
    """Sign another statement than vol3dseg would."""
    signer, content = load_signer(key), path.read_bytes()
    statement = json.loads(signature_bundle.statement(content, path.name))
    change(statement)
    payload = json.dumps(statement).encode()
    sig = signer.private.sign(signature_bundle.signed_bytes(payload), signer.key.scheme)
    beside(path).write_bytes(signature_bundle.bundle(payload, sig, signer.key.sha256))


@pytest.fixture
def nothing_parsed(monkeypatch):
    """Fail where anything of a model is parsed."""

    def parse(*_):
        raise AssertionError("parsed")

    monkeypatch.setattr(file_check, "parse_onnx", parse)


def refusal(path, trusted):
    with pytest.raises(TrustError) as caught:
        load_predictor(path, "cpu", trusted=trusted)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", CURVES)
def test_what_a_key_has_signed_is_trusted_by_it(curve, model_path, tmp_path, brats_folder):
    secret, public = write_keys(tmp_path, "own", ec.generate_private_key(CURVES[curve]()))
    write_signed(model_path, secret)
    write_keys(tmp_path, "another")
    (key,) = load_keys(public)
    record = predict(
        load_predictor(model_path, "cpu", trusted=tmp_path), brats_folder, tmp_path / "out"
    )
    assert record.trusted_by == key.sha256
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert written["trusted_by"] == key.sha256
    assert describe(model_path, trusted=[public]).document["trusted_by"] == key.sha256


def test_a_key_is_called_as_sha256sum_has_it(keys):
    import hashlib

    (key,) = load_keys(keys[1])
    assert key.sha256 == hashlib.sha256(keys[1].read_bytes()).hexdigest()


def test_without_keys_nothing_is_asked_for(signed):
    beside(signed).write_text("no signature")
    assert load_predictor(signed, "cpu").origin.trusted_by == ""
    assert "trusted_by" not in describe(signed).document


def test_the_session_is_made_from_the_bytes_that_were_checked(signed, keys, monkeypatch):
    """Whoever changes the file behind the check changes nothing."""
    before, check = signed.read_bytes(), model_file.trusted_by

    def swap(*words):
        found = check(*words)
        signed.write_bytes(b"another model")
        return found

    monkeypatch.setattr(model_file, "trusted_by", swap)
    found = model_file.read_model(signed, keys=load_keys(keys[1]))
    assert found.content == before


def test_a_renamed_model_stays_trusted(signed, keys, tmp_path):
    moved = tmp_path / "other.onnx"
    beside(signed).rename(beside(moved))
    signed.rename(moved)
    assert load_predictor(moved, "cpu", trusted=keys[1]).origin.trusted_by


def test_a_model_that_is_written_anew_unsigned_loses_its_signature(signed):
    write_model(signed, signed.read_bytes(), None)
    assert not beside(signed).exists()


# --- what is refused, before anything is parsed ---------------------------------------------------

parsing = pytest.mark.usefixtures("nothing_parsed")


@parsing
def test_no_signature(model_path, keys):
    assert "model.onnx.sig: is missing; expected a signature" in refusal(model_path, keys[1])


@parsing
def test_no_keys_are_not_no_check(signed):
    assert "0 trusted keys" in refusal(signed, [])


@parsing
@pytest.mark.parametrize("hint", [True, False])
def test_another_key(hint, signed, tmp_path):
    _, other = write_keys(tmp_path, "other")
    (own,) = load_keys(tmp_path / "key.pem") if hint else (None,)
    if not hint:
        changed(signed, lambda s: s["verificationMaterial"].update(publicKey={}))
    said = refusal(signed, other)
    named = f" ('{own.sha256}')" if hint else ""
    assert (
        f"is signed by a key not trusted{named}; expected a signature by the trusted key;" in said
    )
    another = write_keys(tmp_path, "another")[1]
    assert "expected a signature by one of the 2 trusted keys" in refusal(signed, [other, another])


@parsing
def test_a_long_hint_is_cut(signed, tmp_path):
    _, other = write_keys(tmp_path, "other")
    changed(signed, lambda s: s["verificationMaterial"]["publicKey"].update(hint="x" * 70))
    assert f"not trusted ('{'x' * 64}');" in refusal(signed, other)


@parsing
def test_another_key_that_hints_at_a_trusted_one(signed, keys, tmp_path):
    secret, _ = write_keys(tmp_path, "other")
    (own,) = load_keys(keys[1])
    write_signed(signed, secret)
    changed(signed, lambda s: s["verificationMaterial"]["publicKey"].update(hint=own.sha256))
    assert "was changed since it was signed" in refusal(signed, keys[1])


@parsing
@pytest.mark.parametrize("place", [0, 100, -1])
def test_changed_bytes(place, signed, keys):
    content = bytearray(signed.read_bytes())
    content[place] ^= 1
    signed.write_bytes(content)
    assert "model.onnx: is not the file that was signed" in refusal(signed, keys[1])


@parsing
@pytest.mark.parametrize("more", [b"\0", b""])
def test_longer_and_shorter(more, signed, keys):
    content = signed.read_bytes()
    signed.write_bytes(content + more if more else content[:-1])
    assert "is not the file that was signed" in refusal(signed, keys[1])


@parsing
def test_the_signature_of_another_model(signed, keys, tmp_path):
    other = tmp_path / "other.onnx"
    write_model(other, b"another", load_signer(keys[0]))
    beside(other).replace(beside(signed))
    assert "is not the file that was signed" in refusal(signed, keys[1])


def digest_of(statement, value):
    statement["predicate"]["resources"][0]["digest"] = value


@parsing
def test_a_statement_changed_after_it_was_signed(signed, keys):
    def change(said):
        payload = json.loads(base64.b64decode(said["dsseEnvelope"]["payload"]))
        digest_of(payload, "0" * 64)
        encoded = base64.b64encode(json.dumps(payload).encode()).decode()
        said["dsseEnvelope"]["payload"] = encoded

    changed(signed, change)
    assert "was changed since it was signed" in refusal(signed, keys[1])


AROUND = {
    "payload type": (
        lambda s: s["dsseEnvelope"].update(payloadType="text/plain"),
        "signs something of the type 'text/plain', no model",
    ),
    "bundle": (lambda s: s.update(mediaType="x"), "is a bundle of the type 'x'"),
    "certificate": (
        lambda s: s.update(verificationMaterial={"x509CertificateChain": {}}),
        "is signed by a certificate",
    ),
    "two signatures": (
        lambda s: s["dsseEnvelope"].update(signatures=s["dsseEnvelope"]["signatures"] * 2),
        "holds 2 signatures in place of one",
    ),
    "no signature in it": (
        lambda s: s["dsseEnvelope"].update(signatures=[]),
        "holds 0 signatures in place of one",
    ),
    "base64": (lambda s: s["dsseEnvelope"].update(payload="ä"), "is damaged (no base64)"),
    "stray letters": (
        lambda s: s["dsseEnvelope"].update(payload="!" + s["dsseEnvelope"]["payload"]),
        "is damaged (no base64)",
    ),
    "no envelope": (lambda s: s.pop("dsseEnvelope"), "dsseEnvelope is missing"),
}


@parsing
@pytest.mark.parametrize("name", AROUND)
def test_another_envelope(name, signed, keys):
    change, expected = AROUND[name]
    changed(signed, change)
    assert expected in refusal(signed, keys[1])


SAID = {
    "several models": (
        lambda s: s["predicate"].update(resources=s["predicate"]["resources"] * 2),
        "signs 2 files, and this model is one",
    ),
    "no model": (lambda s: s["predicate"].update(resources=[]), "signs 0 files"),
    "two subjects": (lambda s: s.update(subject=s["subject"] * 2), "subject: expected at most 1"),
    "blake": (
        lambda s: s["predicate"]["resources"][0].update(algorithm="blake3"),
        "names the model by 'blake3', not by its SHA-256",
    ),
    "another statement": (lambda s: s.update(_type="x"), "_type: expected 'https://in-toto"),
    "another predicate": (lambda s: s.update(predicateType="x"), "predicateType: expected"),
    "subject": (
        lambda s: s["subject"][0].update(digest={"sha256": "0" * 64}),
        "contradicts itself",
    ),
    "digest": (lambda s: digest_of(s, "0" * 64), "is not the file that was signed"),
}


@parsing
@pytest.mark.parametrize("name", SAID)
def test_another_statement_by_a_trusted_key(name, model_path, keys):
    change, expected = SAID[name]
    restated(model_path, keys[0], change)
    assert expected in refusal(model_path, keys[1])


@parsing
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 60000, b"\xff"])
def test_no_bundle(content, signed, keys):
    beside(signed).write_bytes(content)
    assert "is damaged or of another version" in refusal(signed, keys[1])


def test_what_is_said_of_a_model():
    """As the standard has it: one file, whose digest is digested once more for the whole."""
    digest = hashlib.sha256(b"network")
    over = hashlib.sha256(digest.digest()).hexdigest()
    assert json.loads(signature_bundle.statement(b"network", "m.onnx")) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m.onnx", "digest": {"sha256": over}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": ".", "algorithm": "sha256", "digest": digest.hexdigest()}],
        },
    }


@parsing
def test_too_large_a_signature(signed, keys):
    with beside(signed).open("ab") as file:
        file.truncate(2**40)
    assert "model.onnx.sig: is too large; expected" in refusal(signed, keys[1])


def test_as_large_a_signature_as_there_may_be(signed, keys):
    path = beside(signed)
    path.write_bytes(path.read_bytes().ljust(2**16))
    assert model_file.read_model(signed, keys=load_keys(keys[1])).trusted_by
    path.write_bytes(path.read_bytes() + b" ")
    assert "is too large" in refusal(signed, keys[1])


@parsing
def test_too_large_a_model(signed, keys):
    with signed.open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(model_file.ModelError, match="more than ONNX can hold"):
        load_predictor(signed, "cpu", trusted=keys[1])


@parsing
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_a_signature(signed, keys):
    beside(signed).unlink()
    os.mkfifo(beside(signed))
    assert "is no file" in refusal(signed, keys[1])


# --- keys -----------------------------------------------------------------------------------------


def test_a_private_key_is_no_key_to_trust(keys):
    with pytest.raises(TrustError, match="is a private key, which nobody but its owner may have"):
        load_keys(keys[0])


@pytest.mark.parametrize(
    ("private", "kind"),
    [(ed25519.Ed25519PrivateKey.generate(), "Ed25519"), (None, "secp256k1")],
)
def test_keys_that_the_standard_does_not_have(private, kind, tmp_path):
    secret, public = write_keys(tmp_path, "odd", private or ec.generate_private_key(ec.SECP256K1()))
    for load, path in ((load_keys, public), (load_signer, secret)):
        with pytest.raises(TrustError, match=f"{path.name}: is a key of another kind .*{kind}"):
            load(path)


@pytest.mark.parametrize("load", [load_keys, load_signer])
@pytest.mark.parametrize(
    ("content", "said"),
    [(b"text", "is no p"), (b"", "is no p"), (b"x" * 2**15, "is too large"), (None, "is missing")],
)
def test_files_that_are_no_keys(load, content, said, tmp_path):
    path = tmp_path / "k.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrustError, match=f"k.pem: {said}"):
        load(path)


def test_several_keys_in_one_file(keys, tmp_path):
    (tmp_path / "two.pem").write_bytes(keys[1].read_bytes() * 2)
    with pytest.raises(TrustError, match="holds several keys"):
        load_keys(tmp_path / "two.pem")


def test_a_folder_without_keys(tmp_path):
    with pytest.raises(TrustError, match="holds no key"):
        load_keys(tmp_path)


def test_more_keys_than_anybody_trusts(keys):
    assert len(load_keys([keys[1]] * 256)) == 1
    with pytest.raises(TrustError, match="257 keys to trust; expected at most 256"):
        load_keys([keys[1]] * 257)


def test_a_model_is_written_with_its_signature_where_somebody_signs(keys, model_path):
    assert written_for(model_path, None) == [model_path]
    assert written_for(model_path, load_signer(keys[0])) == [model_path, beside(model_path)]


def test_a_passphrase_is_in_the_environment_or_asked_for(tmp_path, monkeypatch):
    secret, _ = write_keys(tmp_path, "locked", passphrase=b"open sesame")
    with pytest.raises(TrustError, match="is protected by a passphrase"):
        load_signer(secret)
    assert load_signer(secret, lambda: "open sesame")
    with pytest.raises(TrustError, match="has another passphrase"):
        load_signer(secret, lambda: "open")
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    assert load_signer(secret, lambda: pytest.fail("asked"))


# --- as others have it ----------------------------------------------------------------------------


@pytest.fixture
def others():
    pytest.importorskip("OpenSSL")
    return pytest.importorskip("model_signing")


@pytest.mark.parametrize("curve", CURVES)
def test_the_package_of_the_standard_verifies_ours(curve, others, model_path, tmp_path):
    secret, public = write_keys(tmp_path, "own", ec.generate_private_key(CURVES[curve]()))
    write_signed(model_path, secret)
    config = others.verifying.Config().use_elliptic_key_verifier(public_key=public)
    config.verify(model_path, beside(model_path))
    model_path.write_bytes(b"another")
    with pytest.raises(ValueError, match="mismatch"):
        config.verify(model_path, beside(model_path))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("folder", [False, True])
def test_we_verify_what_the_package_of_the_standard_signs(
    curve, folder, others, model_path, tmp_path
):
    secret, public = write_keys(tmp_path, "own", ec.generate_private_key(CURVES[curve]()))
    what = tmp_path / "folder"
    what.mkdir()
    moved = model_path.rename(what / "model.onnx")
    config = others.signing.Config().use_elliptic_key_signer(private_key=secret)
    config.sign(what if folder else moved, beside(moved))
    (key,) = load_keys(public)
    assert load_predictor(moved, "cpu", trusted=public).origin.trusted_by == key.sha256
    moved.write_bytes(moved.read_bytes() + b"\0")
    assert "is not the file that was signed" in refusal(moved, public)


def test_a_folder_of_several_models_is_refused(others, model_path, keys, tmp_path):
    what = tmp_path / "folder"
    what.mkdir()
    moved = model_path.rename(what / "model.onnx")
    (what / "other.onnx").write_bytes(b"another")
    others.signing.Config().use_elliptic_key_signer(private_key=keys[0]).sign(what, beside(moved))
    assert "signs 2 files, and this model is one" in refusal(moved, keys[1])


# --- commands -------------------------------------------------------------------------------------


def test_commands_say_whose_key_it_is(vol3dseg, signed, keys, brats_folder, tmp_path):
    (key,) = load_keys(keys[1])
    words = (signed, brats_folder, "-o", tmp_path / "out", "--device", "cpu", "--trusted", keys[1])
    done = vol3dseg("predict", *words)
    assert done.returncode == 0, done.stderr
    assert f"signed by the trusted key {key.sha256}" in done.stdout
    assert key.sha256 in vol3dseg("info", signed, "--trusted", tmp_path).stdout
    _, other = write_keys(tmp_path, "other")
    for command in (("predict", *words[:-1], other), ("info", signed, "--trusted", other)):
        done = vol3dseg(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "is signed by a key not trusted" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    beside(signed).unlink()
    again = vol3dseg("info", signed, "--replay", "--trusted", keys[1])
    assert "model.onnx.sig: is missing" in again.stderr


def test_the_package_is_missing(signed, keys, tmp_path):
    from tests.test_missing_package import without

    words = ("predict", signed, tmp_path, "-o", tmp_path / "out", "--trusted", keys[1])
    done = without("cryptography", *words)
    assert done.returncode == 1
    assert done.stderr == (
        "error: cryptography is not installed; install it with: pip install 'vol3dseg[sign]'\n"
    )


# --- who signs, and who asks ----------------------------------------------------------------------


@pytest.mark.parametrize("framework", ["nnunet", "monai"])
def test_an_adopted_model_is_signed(framework, keys, tmp_path):
    folder = (make_model if framework == "nnunet" else make_bundle)(tmp_path / "theirs")
    words = ["adopt", framework, str(folder), "-o", str(tmp_path / "m.onnx")]
    done = CliRunner().invoke(cli, [*words, "--sign", str(keys[0])])
    assert done.exit_code == 0, done.output
    (key,) = load_keys(keys[1])
    assert f"m.onnx.sig: signed by the key {key.sha256}" in done.output
    assert describe(tmp_path / "m.onnx", trusted=keys[1]).facts["trusted_by"] == key.sha256
    done = CliRunner().invoke(cli, words)  # the signature of before is of other content
    assert done.exit_code == 0, done.output
    assert not beside(tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("words", [("train", "-o", "run"), ("cross-validate", "-o", "CV")])
def test_a_model_that_training_starts_from_must_be_signed(words, model_path, keys, tmp_path):
    command, *output = words
    start = [command, str(tmp_path / "prepared"), *output, "--from", str(model_path)]

    def said(*more):
        done = CliRunner().invoke(cli, [*start, *map(str, more)])
        return str(done.exception)

    assert "model.onnx.sig: is missing" in said("--trusted", keys[1])
    write_signed(model_path, keys[0])
    another = write_keys(tmp_path, "another")[1]
    assert "is signed by a key not trusted" in said("--trusted", another)
    assert "prepared" in said("--trusted", keys[1])  # which is not there: the model was let in
    start[-1] = str(tmp_path)
    assert "a folder; expected an ONNX file" in said("--trusted", keys[1])
    done = CliRunner().invoke(cli, [*start[:-2], "--trusted", str(keys[1])])
    assert (done.exit_code, "--from" in done.output) == (2, True)
