import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.errors import (
    FileFormatError,
    GridError,
    IntensityError,
    MemoryLimitError,
    OutputError,
    Vol3dSegError,
)
from vol3dseg.formats import finite_image, image_file, open_volume, read_image, streams
from vol3dseg.formats.image_file import ImageFile
from vol3dseg.formats.nifti.nifti_file import write
from vol3dseg.space.geometry import Geometry

AFFINE = np.array([[-1.5, 0, 0, 90], [0, -1.25, 0, 126], [0, 0, 2, -72], [0, 0, 0, 1]])
SHAPE = (5, 6, 7)
VALUES = np.arange(210, dtype=np.float32).reshape(SHAPE)


def content(array=VALUES, affine=AFFINE, image_class=nib.Nifti1Image, **fields):
    """The bytes of a NIfTI file, with header fields changed."""
    image = image_class(array, affine)
    for name, value in fields.items():
        image.header[name] = value
    return image.to_bytes()


def patched(data, offset, kind, *values):
    """`data` with a header field overwritten, whatever nibabel thinks of it."""
    return data[:offset] + struct.pack(f"<{kind}", *values) + data[offset + struct.calcsize(kind) :]


def stored(tmp_path, data, name="x.nii"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


class TestReading:
    @pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "ünï #1.NII.GZ"])
    @pytest.mark.parametrize(
        "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]
    )
    def test_types_and_names(self, tmp_path, name, dtype):
        data = content(VALUES.astype(dtype))
        path = stored(tmp_path, gzip.compress(data) if "gz" in name.lower() else data, name)
        array, geometry = read_image(path)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, VALUES)
        assert geometry == Geometry(SHAPE, AFFINE)

    @pytest.mark.parametrize(
        ("data", "name"),
        [
            pytest.param(gzip.compress(content()), "x.nii", id="gzip named .nii"),
            pytest.param(content(), "x.nii.gz", id="plain named .nii.gz"),
            pytest.param(content(image_class=nib.Nifti2Image), "x.nii", id="NIfTI-2"),
            pytest.param(content(VALUES[..., None]), "x.nii", id="four axes, the last of one"),
            pytest.param(content(VALUES[..., None, None]), "x.nii", id="five axes"),
        ],
    )
    def test_unusual_but_readable(self, tmp_path, data, name):
        array, geometry = read_image(stored(tmp_path, data, name))
        np.testing.assert_array_equal(array, VALUES)
        assert geometry.shape == SHAPE

    def test_big_endian(self, tmp_path):
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(">f4")
        image = nib.Nifti1Image(VALUES, AFFINE, header)
        assert image.to_bytes()[:4] == struct.pack(">i", 348)
        array, geometry = read_image(stored(tmp_path, image.to_bytes()))
        np.testing.assert_array_equal(array, VALUES)
        assert geometry == Geometry(SHAPE, AFFINE)

    def test_scaled_integers(self, tmp_path):
        data = patched(content(VALUES.astype(np.int16)), 112, "ff", 0.5, -3.0)
        array, _ = read_image(stored(tmp_path, data))
        np.testing.assert_allclose(array, VALUES / 2 - 3)

    def test_slope_zero_means_no_scaling(self, tmp_path):
        data = patched(content(VALUES.astype(np.int16)), 112, "ff", 0.0, 5.0)
        array, _ = read_image(stored(tmp_path, data))
        np.testing.assert_array_equal(array, VALUES)

    def test_a_volume_of_a_4d_file(self, tmp_path):
        path = stored(tmp_path, content(np.stack([VALUES, VALUES + 1000], axis=-1)))
        np.testing.assert_array_equal(read_image(path, 1)[0], VALUES + 1000)

    def test_one_voxel(self, tmp_path):
        array, geometry = read_image(stored(tmp_path, content(np.ones((1, 1, 1), np.float32))))
        assert geometry.shape == array.shape == (1, 1, 1)

    def test_spacing_comes_from_the_affine(self, tmp_path):
        data = patched(content(qform_code=0), 80, "fff", 9, 9, 9)
        assert read_image(stored(tmp_path, data))[1].spacing_mm == (1.5, 1.25, 2)

    @pytest.mark.parametrize("sform", range(5))
    @pytest.mark.parametrize("qform", range(5))
    def test_every_combination_of_codes(self, tmp_path, sform, qform):
        """The sform counts where it has a code, else the qform; each is moved by its own amount."""
        image = nib.Nifti1Image(VALUES, None)
        for code, move, put in ((sform, 1, image.set_sform), (qform, 1.2, image.set_qform)):
            affine = AFFINE.copy()
            affine[0, 3] += move
            put(affine, code)
        path = stored(tmp_path, image.to_bytes())
        if not sform and not qform:
            with pytest.raises(GridError, match="says nothing of orientation"):
                read_image(path)
            return
        geometry = read_image(path)[1]
        assert geometry.affine[0, 3] == pytest.approx(
            AFFINE[0, 3] + (1 if sform else 1.2), abs=1e-4
        )
        assert geometry.spacing_mm == pytest.approx((1.5, 1.25, 2))

    def test_qform_alone(self, tmp_path):
        image = nib.Nifti1Image(VALUES, AFFINE)
        image.set_sform(None, 0)
        image.set_qform(AFFINE, 1)
        assert read_image(stored(tmp_path, image.to_bytes()))[1].fits(Geometry(SHAPE, AFFINE))

    def test_labels_keep_their_type(self, tmp_path):
        values = (VALUES % 3).astype(np.int16)
        array, geometry = open_volume(stored(tmp_path, content(values))).labels()
        assert array.dtype == np.int16
        np.testing.assert_array_equal(array, values)
        assert geometry == Geometry(SHAPE, AFFINE)

    def test_labels_stored_as_floats(self, tmp_path):
        array, _ = open_volume(stored(tmp_path, content((VALUES % 3).astype(np.float32)))).labels()
        assert np.unique(array).tolist() == [0, 1, 2]

    def test_real_labels(self, shared_data):
        folder = shared_data / "brats" / "BraTS2021_00495"
        array, geometry = open_volume(folder / f"{folder.name}_seg.nii.gz").labels()
        assert set(np.unique(array)) <= {0, 1, 2, 4}
        assert geometry.shape == (240, 240, 155)
        assert geometry.axis_codes == "LPS"


def zeros_then(data):
    return PACKED + bytes(100) + data


@st.composite
def files(draw):
    """A NIfTI file of any kind that we read, and what nibabel says is in it."""
    dtype = draw(st.sampled_from(["u1", "i1", "i2", "u2", "i4", "i8", "f4", "f8"]))
    order = draw(st.sampled_from("<>"))
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    volumes = draw(st.sampled_from([(), (1,), (3,), (2, 1)]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.integers(0, 100, (*shape, *volumes)).astype(dtype)
    header = draw(st.sampled_from([nib.Nifti1Header, nib.Nifti2Header]))(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image_class = nib.Nifti1Image if len(header.binaryblock) == 348 else nib.Nifti2Image
    image = image_class(values, AFFINE, header)
    if draw(st.booleans()):
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 99))
    data = bytearray(image.to_bytes())
    slope, inter = draw(st.sampled_from([(1, 0), (0, 7), (0.5, -3), (1, 2.25), (-2, 0)]))
    place, kind = (112, "2f") if image_class is nib.Nifti1Image else (176, "2d")
    struct.pack_into(f"{order}{kind}", data, place, slope, inter)
    data += bytes(draw(st.sampled_from([0, 5])))  # behind the voxels
    return bytes(data), image_class.from_bytes(bytes(data))


@settings(max_examples=100)
@given(files(), st.sampled_from(["plain", "gzip", "in members"]), st.sampled_from([16, 2**20]))
def test_voxels_are_those_that_nibabel_reads(tmp_path_factory, made, packing, portion):
    data, oracle = made
    if packing == "gzip":
        data = gzip.compress(data)
    elif packing == "in members":
        data = b"".join(gzip.compress(data[n : n + 200]) for n in range(0, len(data), 200))
    path = tmp_path_factory.getbasetemp() / "any.nii"
    path.write_bytes(data)
    volumes = np.asanyarray(oracle.dataobj).reshape(*oracle.shape[:3], -1, order="F")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_file, "PORTION", portion)
        patch.setattr(streams, "PORTION", portion)
        file = open_volume(path)
        for channel in range(volumes.shape[3]):
            array, geometry, _ = file.image(channel)
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, volumes[..., channel].astype(np.float32))
            assert geometry.fits(Geometry(oracle.shape[:3], AFFINE))
        if volumes.shape[3] == 1:
            labels, _ = open_volume(path).labels()
            assert labels.dtype == volumes.dtype.newbyteorder("=")
            np.testing.assert_array_equal(labels, volumes[..., 0])


def test_an_image_goes_where_it_is_told(tmp_path):
    path = stored(tmp_path, PACKED)
    place = np.empty((*SHAPE, 2), np.float32, order="F")[..., 1]
    array, _, _ = open_volume(path).image(out=place)
    assert np.shares_memory(array, place)
    np.testing.assert_array_equal(place, VALUES)
    elsewhere, _, _ = open_volume(path).image(out=np.empty((2, 2, 2), np.float32))
    np.testing.assert_array_equal(elsewhere, VALUES)


def test_reading_takes_little_memory_but_for_the_result(tmp_path):
    values = np.random.default_rng(0).integers(0, 9, (128, 128, 128)).astype(np.int16)
    path = stored(tmp_path, gzip.compress(content(values), 1))
    tracemalloc.start()
    array, _ = read_image(path)
    assert tracemalloc.get_traced_memory()[1] < array.nbytes + 6 * streams.PORTION
    tracemalloc.stop()


def test_zeros_behind_a_gzip_stream_are_padding(tmp_path):
    assert read_image(stored(tmp_path, zeros_then(b"")))[1].shape == SHAPE


def test_more_voxels_than_memory(tmp_path):
    """4 TB of float32, in a file that can hold them."""
    header = patched(content(np.ones((64, 64, 64), np.uint8)), 42, "hhh", 10000, 10000, 10000)
    path = stored(tmp_path, header)
    os.truncate(path, 10**12 + 352)  # sparse: takes no room
    with pytest.raises(MemoryLimitError, match=r"they take 3814697 MB, and \d+ MB are free; crop"):
        read_image(path)


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs Linux's /proc")
def test_what_the_system_cannot_read_is_said_in_words():
    with pytest.raises(FileFormatError, match=r"/proc/self/mem: cannot be read \(.*\); expected a"):
        read_image(Path("/proc/self/mem"))


PLAIN, PACKED = content(), gzip.compress(content())
NOISE = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
LARGE = gzip.compress(content(NOISE))


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        pytest.param(b"\0", FileFormatError, "not a NIfTI", id="one byte"),
        pytest.param(gzip.compress(b"hello"), FileFormatError, "not a NIfTI", id="packed text"),
        pytest.param(PLAIN[:200], FileFormatError, "ends within|not a NIfTI", id="half a header"),
        pytest.param(PLAIN[:-1], FileFormatError, "truncated", id="one byte short"),
        pytest.param(PACKED[:-1], FileFormatError, "truncated", id="gzip, one byte short"),
        pytest.param(PACKED[:30], FileFormatError, "truncated", id="gzip, 30 bytes"),
        pytest.param(PACKED[:-4] + b"\1\2\3\4", FileFormatError, "damaged", id="length"),
        pytest.param(PACKED + b"garbage", FileFormatError, "damaged", id="garbage behind it"),
        pytest.param(zeros_then(PACKED[:9]), FileFormatError, "truncated", id="half a member"),
        pytest.param(zeros_then(PACKED[:-8] + bytes(8)), FileFormatError, "CRC", id="its CRC"),
        pytest.param(
            gzip.compress(PLAIN[:-1]), FileFormatError, "1 bytes of its voxels", id="a voxel short"
        ),
        pytest.param(patched(PLAIN, 70, "h", 999), FileFormatError, "damaged NIfTI", id="type"),
        pytest.param(
            patched(PLAIN, 108, "f", np.nan), FileFormatError, "byte nan", id="offset NaN"
        ),
        pytest.param(
            patched(PLAIN, 108, "f", np.inf), FileFormatError, "byte inf", id="offset infinite"
        ),
        pytest.param(patched(PLAIN, 344, "4s", b"ni1\0"), FileFormatError, "one piece", id="pair"),
        pytest.param(
            content(VALUES.astype(np.float64) * 1e300),
            IntensityError,
            "infinite",
            id="1e300",
        ),
    ],
)
def test_bad_files(tmp_path, data, error, message):
    path = stored(tmp_path, data, "x.nii.gz")
    with pytest.raises(error, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        pytest.param(
            patched(PLAIN, 252, "hh", 0, 0),
            "header says nothing of orientation: the codes of sform and qform are both 0; "
            "read as LAS, with the spacing of pixdim",
            id="no orientation",
        ),
        pytest.param(
            patched(PLAIN, 80, "f", -3.0),
            "header says that voxels are [-3.0, 1.25, 2.0] mm apart; taken from the sform",
            id="pixdim < 0",
        ),
        pytest.param(
            patched(PLAIN, 108, "f", 0),
            "header says that voxels begin at byte 0; read from byte 352",
            id="offset 0",
        ),
    ],
)
def test_repairs_are_made_where_they_are_allowed(tmp_path, data, note):
    path = stored(tmp_path, data)
    with pytest.raises(Vol3dSegError, match=f"or give --repair: it is then {note.split('; ')[1]}"):
        read_image(path)
    file = open_volume(path, repair=True)
    array, geometry, _ = finite_image(file)
    finite_image(file)
    assert [str(n) for n in file.notes] == [note]  # once, however often it is read
    assert file.notes[0].repaired
    np.testing.assert_array_equal(array, VALUES)
    assert geometry.spacing_mm == pytest.approx(Geometry(SHAPE, AFFINE).spacing_mm)
    assert (geometry == Geometry(SHAPE, AFFINE)) == ("LAS" not in note)


def test_a_bad_spacing_without_another_is_not_repaired(tmp_path):
    path = stored(tmp_path, patched(patched(PLAIN, 80, "f", -3.0), 252, "hh", 1, 0))
    with pytest.raises(FileFormatError, match=r"mend pixdim, or export it again$"):
        open_volume(path, repair=True)


@pytest.mark.parametrize(
    ("data", "name", "note"),
    [
        (PACKED, "x.nii", "is compressed with gzip but not named .gz; decompressed"),
        (PLAIN, "x.nii.gz", "is named .gz but not compressed; read as it is"),
        (
            content(VALUES[..., None, None]),
            "x.nii",
            "has 5 axes, of which the last are single; read as 3",
        ),
    ],
)
def test_what_is_harmless_is_noted(tmp_path, data, name, note):
    file = open_volume(stored(tmp_path, data, name))
    np.testing.assert_array_equal(finite_image(file)[0], VALUES)
    assert [(str(n), n.repaired) for n in file.notes] == [(note, False)]


def test_missing_and_irregular_files(tmp_path):
    with pytest.raises(FileFormatError, match="does not exist"):
        read_image(tmp_path / "x.nii")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="is no regular file"):
        read_image(tmp_path / "pipe")


def test_a_volume_that_is_not_there(tmp_path):
    path = stored(tmp_path, content(np.stack([VALUES] * 2, -1)))
    with pytest.raises(FileFormatError, match=r"expected a file of four axes with a volume 2"):
        read_image(path, 2)


def test_the_grid_alone_needs_no_voxels(tmp_path, monkeypatch):
    several = stored(tmp_path, content(np.stack([VALUES, VALUES], axis=-1)), "several.nii")
    monkeypatch.setattr(ImageFile, "_voxels", None)
    assert open_volume(several).geometry(1) == Geometry(SHAPE, AFFINE)
    with pytest.raises(FileFormatError, match=r"x.nii: has shape \(5, 6\); expected three axes"):
        open_volume(stored(tmp_path, content(VALUES[..., 0]))).geometry()


@pytest.mark.parametrize("channel", [0, 1])
def test_what_is_not_finite_is_mended_and_counted(tmp_path, channel):
    values = np.stack([VALUES, VALUES + 1], axis=-1)
    values[1, 2, 3:6, channel] = np.nan, np.inf, -np.inf
    file = open_volume(stored(tmp_path, content(values)))
    array, geometry, replaced = finite_image(file, channel, -5.0)
    assert (replaced, geometry) == (3, Geometry(SHAPE, AFFINE))
    np.testing.assert_array_equal(array, np.where(np.isfinite(values), values, -5)[..., channel])
    assert finite_image(file, 1 - channel, -5.0)[2] == 0
    with pytest.raises(IntensityError, match="3 voxels are NaN"):
        finite_image(file, channel)


def test_sform_and_qform_may_differ_by_rounding(tmp_path):
    path = stored(tmp_path, content(qform_code=1, qoffset_x=90.3, sform_code=1))
    image = nib.Nifti1Image(VALUES, AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    image.header["qoffset_x"] += 0.3
    path.write_bytes(image.to_bytes())
    assert read_image(path)[1] == Geometry(SHAPE, AFFINE)


def in_unit(code, mm, image_class):
    image = image_class(VALUES, np.diag([1 / mm] * 3 + [1]) @ AFFINE)
    image.set_qform(image.affine, 1)
    image.header["xyzt_units"] = code | 16  # and milliseconds
    return image.to_bytes()


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("code", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 1e-3), (7, 1)])
def test_the_world_is_in_mm_whatever_the_header_counts_in(tmp_path, image_class, code, mm):
    file = open_volume(stored(tmp_path, in_unit(code, mm, image_class)))
    np.testing.assert_allclose(file.geometry().affine, AFFINE, rtol=1e-6)
    assert len(file.notes) == (mm != 1)


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("squared", [1 - 1e-4, 1 - 1e-7, 1, 1 + 1e-7, 1 + 5e-7, 1 + 9e-4])
def test_half_a_turn_may_be_rounded(tmp_path, image_class, squared):
    image = image_class(VALUES, AFFINE)
    image.set_sform(None, 0)
    image.set_qform(AFFINE, 1)  # half a turn about z
    data = image.to_bytes()
    header = image_class.header_class(data[: len(image.header.binaryblock)])
    header["quatern_d"] = np.sqrt(squared)
    path = stored(tmp_path, header.binaryblock + data[len(header.binaryblock) :])
    turn = open_volume(path).geometry().affine[:3, :3]
    most = 2 * np.sqrt(max(1 - squared, 4e-7))  # radians, of the fourth number
    np.testing.assert_allclose(turn, AFFINE[:3, :3], atol=2 * most)


def read_or_refuse(read, path):
    """The array that `read` returns, or None where it refuses in words of ours."""
    try:
        array, geometry = read(path)
    except Vol3dSegError as error:
        if str(path) not in str(error):
            raise
        return None
    assert array.shape == geometry.shape
    return array


@given(st.integers(0, 351), st.integers(0, 255), st.booleans())
def test_any_damaged_header_is_read_or_refused_in_words(tmp_path_factory, offset, byte, packed):
    data = PLAIN[:offset] + bytes([byte]) + PLAIN[offset + 1 :]
    path = tmp_path_factory.getbasetemp() / "damaged.nii"
    path.write_bytes(gzip.compress(data) if packed else data)
    read_or_refuse(read_image, path)
    read_or_refuse(lambda path: open_volume(path).labels(), path)


@given(st.integers(0, len(LARGE) - 1), st.integers(1, 255))
def test_any_damaged_gzip_is_refused_or_harmless(tmp_path_factory, offset, change):
    path = tmp_path_factory.getbasetemp() / "damaged.nii.gz"
    path.write_bytes(LARGE[:offset] + bytes([LARGE[offset] ^ change]) + LARGE[offset + 1 :])
    array = read_or_refuse(read_image, path)
    if array is not None:
        np.testing.assert_array_equal(array, NOISE)


class TestWriting:
    @pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_what_is_written_is_read(self, tmp_path, name, dtype):
        geometry = Geometry(SHAPE, AFFINE)
        write(tmp_path / "new" / name, VALUES.astype(dtype), geometry)
        array, found = open_volume(tmp_path / "new" / name).labels()
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, VALUES.astype(dtype))
        assert found == geometry
        header = nib.load(tmp_path / "new" / name).header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
        assert header.get_xyzt_units()[0] == "mm"

    def test_oblique_grids_come_back(self, tmp_path):
        affine = AFFINE.copy()
        affine[:3, :3] = nib.eulerangles.euler2mat(0.2, -0.1, 0.15) @ affine[:3, :3]
        write(tmp_path / "x.nii", VALUES, Geometry(SHAPE, affine))
        assert read_image(tmp_path / "x.nii")[1].fits(Geometry(SHAPE, affine), 1e-4)

    def test_no_text_of_the_source_is_carried_over(self, tmp_path):
        image = nib.Nifti1Image(VALUES, AFFINE)
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            image.header[field] = b"DOE^JOHN"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JOHN"))
        path = stored(tmp_path, image.to_bytes())
        assert b"DOE^JOHN" in path.read_bytes()
        array, geometry = read_image(path)
        write(tmp_path / "y.nii", array, geometry)
        assert b"DOE" not in (tmp_path / "y.nii").read_bytes()

    def test_the_same_input_gives_the_same_bytes(self, tmp_path):
        for name in ("a.nii.gz", "b.nii.gz"):
            write(tmp_path / name, VALUES, Geometry(SHAPE, AFFINE))
        assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
        assert b"a.nii" not in (tmp_path / "a.nii.gz").read_bytes()

    @pytest.mark.parametrize("order", "CF")
    @pytest.mark.parametrize("volumes", [(), (2,)], ids=["3-D", "4-D"])
    @pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "f4", "f8"])
    def test_the_bytes_are_those_that_nibabel_writes(self, tmp_path, dtype, volumes, order):
        shape, geometry = (70, 50, 90), Geometry((70, 50, 90), AFFINE)
        values = np.random.default_rng(0).integers(0, 99, (*shape, *volumes))
        array = np.array(values, dtype=dtype, order=order)
        image = nib.Nifti1Image(array, AFFINE)
        image.set_data_dtype(array.dtype)
        image.header.set_xyzt_units("mm")
        image.set_sform(AFFINE, code=1)
        image.set_qform(AFFINE, code=1)
        for name in ("x.nii", "x.nii.gz"):
            write(tmp_path / name, array, geometry)
        assert (tmp_path / "x.nii").read_bytes() == image.to_bytes()
        packed = (tmp_path / "x.nii.gz").read_bytes()
        assert gzip.decompress(packed) == image.to_bytes()
        inflater = zlib.decompressobj(wbits=31)  # some readers take the first member only
        assert inflater.decompress(packed) == image.to_bytes()
        assert inflater.eof
        assert inflater.unused_data == b""

    def test_the_bytes_do_not_depend_on_the_number_of_threads(self, tmp_path, monkeypatch):
        values = np.random.default_rng(0).normal(size=(128, 128, 50)).astype(np.float32)
        for threads in (1, 2, 5):
            monkeypatch.setattr(streams, "usable_cores", lambda threads=threads: threads)
            write(tmp_path / f"{threads}.nii.gz", values, Geometry(values.shape, AFFINE))
        assert len({path.read_bytes() for path in tmp_path.glob("*.nii.gz")}) == 1

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a malloc that spoils memory on wish")
    def test_the_bytes_do_not_depend_on_what_memory_held_before(self, tmp_path):
        """With ISA-L, which is faster still, one in twenty-five small streams does."""
        code = (
            "import sys, hashlib, pathlib, numpy as np\n"
            "from vol3dseg.formats.streams import write_stream\n"
            "rng, found = np.random.default_rng(0), hashlib.sha256()\n"
            "for size in [*range(20, 400), 5000, 2**21 + 70]:\n"
            "    path = pathlib.Path(sys.argv[1]) / 'x.gz'\n"
            "    write_stream(path, [rng.choice([0, 0, 0, 1, 2, 3], size).astype(np.uint8)])\n"
            "    found.update(path.read_bytes())\n"
            "print(found.hexdigest())\n"
        )
        hashes = {
            subprocess.run(
                [sys.executable, "-c", code, tmp_path],
                check=True,
                capture_output=True,
                env={**os.environ, "MALLOC_PERTURB_": byte},
            ).stdout
            for byte in ("1", "85", "170")
        }
        assert len(hashes) == 1

    def test_other_readers_read_it(self, tmp_path, shared_data):
        """And a real label map takes little more than what gzip makes of it at level 4."""
        folder = shared_data / "brats" / "BraTS2021_00495"
        array, geometry = open_volume(folder / f"{folder.name}_seg.nii.gz").labels()
        write(tmp_path / "x.nii.gz", array.astype(np.uint8), geometry)
        np.testing.assert_array_equal(nib.load(tmp_path / "x.nii.gz").dataobj, array)
        packed = (tmp_path / "x.nii.gz").read_bytes()
        assert len(packed) <= 1.05 * len(gzip.compress(gzip.decompress(packed), 4))
        sitk = pytest.importorskip("SimpleITK")
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "x.nii.gz")))
        np.testing.assert_array_equal(found.T, array)

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            write(tmp_path / "file" / "x.nii", VALUES, Geometry(SHAPE, AFFINE))
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (
            struct.pack(">7i", 1, 256, 256, 256, 1, 3, 0),
            "is MGH or MGZ; .*; convert it, as mri_con",
        ),
        (b"\x89HDF\r\n\x1a\n", "is HDF5, as MINC 2 is; .*mnc2nii"),
        (b"\x93NUMPY\1\0", "is a NumPy array, which has no grid; .*; export the scan"),
        (b"\x89PNG\r\n", r"is a picture \(PNG\); "),
        (b"II*\0", r"is a picture, or several \(TIFF\); "),
        (b"PK\3\4", r"is an archive \(ZIP, 7z or RAR\); .*; unpack it"),
        (b"BZh91AY", "is compressed with bzip2; .*; unpack it"),
        (b"\n <!DOCTYPE html>", "is a page of the web; .*; download it again"),
        (b"solid ascii", "is a surface or a mesh; .*; convert it to a label map"),
        (b"\0\0\0\2 and so on", "not a NIfTI file; expected NIfTI .*; export the scan as one"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_other_files_are_called_what_they_are(tmp_path, start, words, pack):
    with pytest.raises(FileFormatError, match=words):
        open_volume(stored(tmp_path, pack(start + bytes(600))))


@pytest.mark.parametrize(("qfac", "side"), [(-1, -2), (-0.9999, -2), (0, 2), (1.0001, 2), (1, 2)])
def test_the_sign_of_qfac_mirrors_the_last_axis(tmp_path, qfac, side):
    data = patched(PLAIN, 252, "hh3f", 1, 0, 0, 0, 0)  # no turn
    geometry = open_volume(stored(tmp_path, patched(data, 76, "f", qfac))).geometry()
    assert geometry.affine[2, 2] == side
