"""Every transfer syntax gives the voxels that the same file has uncompressed."""

import io

import numpy as np
import pytest

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.dicom.dicom_volume import DicomVolume

pytest.importorskip("pydicom")

from pydicom import uid
from pydicom.encaps import encapsulate

jpeg_ls = pytest.importorskip("jpeg_ls")
pictures = pytest.importorskip("PIL.Image")
ALL = 4096  # stored values of 12 bits


def as_stored(slice_, words):
    del words
    return slice_.PixelData


def turned(slice_, words):
    del slice_
    return words.byteswap().tobytes()


def run_lengths(slice_, words):
    del words
    own, slice_.BitsStored = slice_.BitsStored, 16  # else pydicom packs no bits but these
    highest, slice_.HighBit = slice_.HighBit, 15
    slice_.compress(uid.RLELossless, generate_instance_uid=False)
    slice_.BitsStored, slice_.HighBit = own, highest
    return slice_.PixelData


def jpeg_ls_of(bits):
    def pack(slice_, words):
        del slice_
        low = words & np.uint16(2**bits - 1)
        rows, columns = words.shape
        size = {"rows": rows, "columns": columns, "samples_per_pixel": 1, "bits_stored": bits}
        return encapsulate([bytes(jpeg_ls.encode_pixel_data(low.tobytes(), **size))])

    return pack


def jpeg_2000(slice_, words):
    del slice_
    coded = io.BytesIO()
    pictures.fromarray(words).save(coded, "JPEG2000", irreversible=False, no_jp2=True)
    return encapsulate([coded.getvalue()])


SYNTAXES = {
    "explicit": (uid.ExplicitVRLittleEndian, as_stored),
    "implicit": (uid.ImplicitVRLittleEndian, as_stored),
    "big endian": (uid.ExplicitVRBigEndian, turned),
    "deflated": (uid.DeflatedExplicitVRLittleEndian, as_stored),
    "RLE": (uid.RLELossless, run_lengths),
    "JPEG-LS": (uid.JPEGLSLossless, jpeg_ls_of(16)),
    "JPEG-LS of 12 bits": (uid.JPEGLSLossless, jpeg_ls_of(12)),
    "JPEG 2000": (uid.JPEG2000Lossless, jpeg_2000),
}


@pytest.fixture
def stored(dicom_slice, tmp_path):
    """Read one slice of words of 16 bits, of which `own` up to `highest` are a value."""

    def store(words, syntax, pack, own, highest, signed):
        one = dicom_slice(words, PixelRepresentation=int(signed), BitsStored=own, HighBit=highest)
        one.PixelData = pack(one, words)
        one.file_meta.TransferSyntaxUID = syntax
        one["PixelData"].VR = "OB" if syntax.is_encapsulated else "OW"
        one.save_as(tmp_path / "1.dcm", enforce_file_format=True)
        return DicomVolume(tmp_path).image()[0][..., 0].T

    return store


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("beside", [0x0, 0x9, 0xF], ids="bits {:x} beside".format)
@pytest.mark.parametrize("name", SYNTAXES)
def test_voxels_are_those_of_the_uncompressed_file(stored, name, beside, signed):
    values = np.arange(ALL).reshape(64, 64)
    words = (values | beside << 12).astype(np.uint16)
    expected = values - ALL * (signed & (values >= ALL // 2))
    np.testing.assert_array_equal(stored(words, *SYNTAXES[name], 12, 11, signed), expected)


@pytest.mark.parametrize("name", ["explicit", "big endian", "deflated", "RLE"])
def test_values_may_stand_in_the_upper_bits(stored, name):
    values = np.arange(ALL).reshape(64, 64)
    words = (values << 4 | 0x5).astype(np.uint16)
    expected = values - ALL * (values >= ALL // 2)
    np.testing.assert_array_equal(stored(words, *SYNTAXES[name], 12, 15, signed=True), expected)


@pytest.mark.parametrize(
    ("bits", "own", "highest", "message"),
    [
        (12, 12, 15, "says 12 of 16 bits, of which the highest is bit 15; expected bit 11, since"),
        (16, 17, 16, "says 17 of 16 bits, of which the highest is bit 16; expected the bits of a"),
        (12, 16, 15, "are unsigned numbers of 12 bits; expected signed ones of 16, as its header"),
    ],
)
def test_a_stream_that_is_not_what_its_header_says_is_refused(stored, bits, own, highest, message):
    words = np.arange(ALL, dtype=np.uint16).reshape(64, 64)
    with pytest.raises(FileFormatError, match=rf"1\.dcm: .*{message}"):
        stored(words, uid.JPEGLSLossless, jpeg_ls_of(bits), own, highest, signed=True)


def test_positive_values_of_a_short_stream_are_clear(stored):
    words = np.arange(ALL // 2, dtype=np.uint16).reshape(32, 64)
    found = stored(words, uid.JPEGLSLossless, jpeg_ls_of(12), 16, 15, signed=True)
    np.testing.assert_array_equal(found, words)
