"""NRRD and MetaImage: what SimpleITK reads right is read, what it reads wrong is refused."""

import gzip
import os
import subprocess
import sys
import zlib
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg import formats
from vol3dseg.errors import (
    FileFormatError,
    GridError,
    IntensityError,
    OutputError,
    Vol3dSegError,
)
from vol3dseg.formats.itk import itk_file
from vol3dseg.space.geometry import Geometry
from vol3dseg.written import LIST_NAME

sitk = pytest.importorskip("SimpleITK")

SHAPE = (5, 6, 7)
VALUES = np.arange(210, dtype=np.uint8).reshape(SHAPE)
BYTES = VALUES.tobytes(order="F")
PACKED, DEFLATED = gzip.compress(BYTES), zlib.compress(BYTES)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SUFFIXES = (".nii.gz", ".nrrd", ".mha")
NRRD_FIELDS = {
    "type": "uint8",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "5 6 7",
    "space directions": "(1.5,0,0) (0,1.25,0) (0,0,2)",
    "encoding": "raw",
    "space origin": "(90,126,-72)",
}
WORLD = ("space", "space directions", "space origin")
META_FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "90 126 -72",
    "ElementSpacing": "1.5 1.25 2",
    "DimSize": "5 6 7",
    "ElementType": "MET_UCHAR",
}
AFFINE = LPS @ np.array([[1.5, 0, 0, 90], [0, 1.25, 0, 126], [0, 0, 2, -72], [0, 0, 0, 1]])
GRID = Geometry(SHAPE, AFFINE)


def nrrd(data=BYTES, without=(), **fields):
    """The bytes of an NRRD file; `space_units=...` is the field "space units"."""
    given_fields = {name.replace("_", " "): value for name, value in fields.items()}
    every = {n: v for n, v in {**NRRD_FIELDS, **given_fields}.items() if n not in without}
    return b"NRRD0005\n" + b"".join(f"{n}: {v}\n".encode() for n, v in every.items()) + b"\n" + data


def meta(data=BYTES, without=(), data_file="LOCAL", **fields):
    if fields.get("CompressedData") and "CompressedDataSize" not in fields:
        fields["CompressedDataSize"] = str(len(data or DEFLATED))
    every = {n: v for n, v in {**META_FIELDS, **fields}.items() if n not in without}
    every["ElementDataFile"] = data_file
    return "".join(f"{n} = {v}\n" for n, v in every.items()).encode() + data


def stored(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    return path


FOUR_NRRD = {"dimension": "4", "sizes": "5 6 7 2"}
FOUR_META = {
    "NDims": "4",
    "DimSize": "5 6 7 2",
    "TransformMatrix": " ".join(map(str, np.eye(4).ravel().astype(int))),
    "Offset": "90 126 -72 0",
    "ElementSpacing": "1.5 1.25 2 1",
}
WITHIN = np.stack([VALUES, VALUES + 5], axis=-1)  # of uint8: may run over, the same for all
LAST, FIRST = WITHIN.tobytes(order="F"), np.moveaxis(WITHIN, -1, 0).tobytes(order="F")


class TestReading:
    @pytest.mark.parametrize(
        ("data", "name"),
        [
            pytest.param(nrrd(), "x.nrrd", id="NRRD"),
            pytest.param(nrrd(gzip.compress(BYTES), encoding="gzip"), "x.nrrd", id="gzip"),
            pytest.param(
                nrrd(gzip.compress(BYTES[:9]) + gzip.compress(BYTES[9:]), encoding="gz"),
                "x.nrrd",
                id="gzip in members",
            ),
            pytest.param(nrrd(b"junk" + BYTES, byte_skip="4"), "x.nrrd", id="byte skip"),
            pytest.param(nrrd(b"junk" + BYTES, byte_skip="-1"), "x.nrrd", id="byte skip -1"),
            pytest.param(nrrd().replace(b"\n", b"\r\n", 8), "x.nrrd", id="lines of Windows"),
            pytest.param(nrrd(space="LPS"), "x.NRRD", id="space by letters, upper case"),
            pytest.param(nrrd(content=""), "x.nrrd", id="a field that says nothing"),
            pytest.param(
                nrrd(
                    space="right-anterior-superior",
                    space_directions="(-1.5,0,0) (0,-1.25,0) (0,0,2)",
                    space_origin="(-90,-126,-72)",
                ),
                "x.nrrd",
                id="RAS",
            ),
            pytest.param(
                nrrd(
                    space="left-anterior-superior",
                    space_directions="(1.5,0,0) (0,-1.25,0) (0,0,2)",
                    space_origin="(90,-126,-72)",
                ),
                "x.nrrd",
                id="LAS",
            ),
            pytest.param(nrrd(space_units='"mm" "mm" "mm"'), "x.nrrd", id="units"),
            pytest.param(
                nrrd(dimension="4", sizes="5 6 7 1", kinds="domain domain domain list",
                     space_directions="(1.5,0,0) (0,1.25,0) (0,0,2) none"),
                "x.nrrd",
                id="four axes, the last of one",
            ),
            pytest.param(nrrd(), "x.mha", id="NRRD named .mha"),
            pytest.param(meta(), "x.mha", id="MetaImage"),
            pytest.param(meta(), "x.nrrd", id="MetaImage named .nrrd"),
            pytest.param(meta(zlib.compress(BYTES), CompressedData="True"), "x.mha", id="zlib"),
            pytest.param(meta(b"junk" + BYTES, HeaderSize="-1"), "x.mha", id="HeaderSize -1"),
            pytest.param(meta(ElementToIntensityFunctionSlope="1"), "x.mha", id="slope 1"),
            pytest.param(
                meta(**{"dim[0]": "3", "0008|0060": "MR", "aux_file": "", "note": "ä = : b"}),
                "x.mha",
                id="fields of other formats",
            ),
            pytest.param(meta(AnatomicalOrientation="LPS"), "x.mha", id="orientation in letters"),
            pytest.param(
                b"ObjectType = Image\nDimSize = 5 6 7\n" + meta(without=("DimSize", "ObjectType")),
                "x.mha",
                id="sizes before their number",
            ),
        ],
    )  # fmt: skip
    def test_what_is_right(self, tmp_path, data, name, caplog):
        array, geometry = formats.read_image(stored(tmp_path, data, name))
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, VALUES)
        np.testing.assert_allclose(geometry.affine, AFFINE, atol=1e-12)
        labels, _ = formats.open_volume(tmp_path / name).labels()
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, VALUES)
        assert not caplog.records

    @pytest.mark.parametrize(
        ("header", "name", "voxels"),
        [
            pytest.param(nrrd(b"", data_file="x.raw"), "x.nhdr", BYTES, id="NRRD"),
            pytest.param(nrrd(b"", data_file="x.raw")[:-1], "x.nhdr", BYTES, id="no empty line"),
            pytest.param(
                nrrd(b"", data_file="x.raw", encoding="gzip"),
                "x.nhdr",
                gzip.compress(BYTES),
                id="NRRD, gzip",
            ),
            pytest.param(meta(b"", data_file="x.raw"), "x.mhd", BYTES, id="MetaImage"),
            pytest.param(
                meta(b"", data_file="x.raw", HeaderSize="4"), "x.mhd", b"junk" + BYTES, id="skip"
            ),
            pytest.param(
                meta(b"", data_file="x.raw", CompressedData="True"),
                "x.mhd",
                zlib.compress(BYTES),
                id="MetaImage, zlib",
            ),
        ],
    )
    def test_voxels_in_a_file_of_their_own(self, tmp_path, header, name, voxels):
        stored(tmp_path, voxels, "x.raw")
        array, geometry = formats.read_image(stored(tmp_path, header, name))
        np.testing.assert_array_equal(array, VALUES)
        assert geometry.fits(GRID)
        (tmp_path / "x.raw").write_bytes(voxels[:-9])
        with pytest.raises(FileFormatError, match=f"{name}: truncated"):
            formats.read_image(tmp_path / name)

    @pytest.mark.parametrize(
        ("data", "name"),
        [
            pytest.param(
                nrrd(LAST, **FOUR_NRRD, without=WORLD),
                "x.nrrd",
                id="NRRD",
            ),
            pytest.param(
                nrrd(LAST, **FOUR_NRRD, kinds="domain domain domain list",
                     space_directions="(1.5,0,0) (0,1.25,0) (0,0,2) none"),
                "x.nrrd",
                id="list last",
            ),
            pytest.param(
                nrrd(FIRST, dimension="4", sizes="2 5 6 7", kinds="list domain domain domain",
                     space_directions="none (1.5,0,0) (0,1.25,0) (0,0,2)"),
                "x.nrrd",
                id="list first",
            ),
            pytest.param(meta(LAST, **FOUR_META), "x.mha", id="MetaImage"),
            pytest.param(meta(FIRST, ElementNumberOfChannels="2"), "x.mha", id="channels"),
        ],
    )  # fmt: skip
    def test_a_volume_of_several(self, tmp_path, data, name):
        path = stored(tmp_path, data, name)
        file = formats.open_volume(path, repair=True)  # that of four axes has no orientation
        assert file.shape == (*SHAPE, 2)
        for channel in (1, 0):
            np.testing.assert_array_equal(file.image(channel)[0], WITHIN[..., channel])
        assert file.image(0)[1].shape == SHAPE
        message = r"has shape \(5, 6, 7, 2\); expected three axes; name one of its 2 volumes"
        with pytest.raises(FileFormatError, match=message):
            formats.open_volume(path).labels()
        with pytest.raises(FileFormatError, match="expected a file of four axes with a volume 2"):
            file.image(2)

    def test_an_image_goes_where_it_is_told(self, tmp_path):
        file = formats.open_volume(stored(tmp_path, nrrd(), "x.nrrd"))
        place = np.empty((*SHAPE, 2), np.float32, order="F")[..., 1]
        array, _, _ = file.image(out=place)
        assert np.shares_memory(array, place)
        np.testing.assert_array_equal(place, VALUES)
        np.testing.assert_array_equal(file.image(out=np.empty((2, 2, 2), np.float32))[0], VALUES)

    @pytest.mark.parametrize(
        ("data", "name"),
        [
            (nrrd(without=WORLD, spacings="1 2 3"), "x.nrrd"),
            (meta(without=("TransformMatrix",)), "x.mha"),
        ],
    )  # fmt: skip
    def test_no_orientation_is_read_as_a_repair_only(self, tmp_path, data, name):
        path = stored(tmp_path, data, name)
        with pytest.raises(GridError, match=f"{name}: header says nothing of orientation"):
            formats.read_image(path)
        file = formats.open_volume(path, repair=True)
        assert file.geometry().axis_codes in str(file.notes[0])
        assert file.notes[0].repaired

    def test_spacing_comes_from_the_axes(self, tmp_path):
        path = stored(tmp_path, meta(TransformMatrix="2 0 0 0 1 0 0 0 1"), "x.mha")
        assert formats.read_image(path)[1].spacing_mm == (3, 1.25, 2)

    def test_the_kind_of_number_is_kept(self, tmp_path):
        for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"):
            for name in ("x.nrrd", "x.mha"):
                array = np.arange(-3, 207).astype(kind).reshape(7, 6, 5)
                sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
                found, _ = formats.open_volume(tmp_path / name).labels()
                assert found.dtype == np.dtype(kind)
                np.testing.assert_array_equal(found, array.T)


META_TYPES = {
    "i1": "CHAR", "u1": "UCHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "u4": "UINT",
    "i8": "LONG_LONG", "f4": "FLOAT", "f8": "DOUBLE",
}  # fmt: skip
NRRD_TYPES = {
    "i1": "signed char", "u1": "uchar", "i2": "short", "u2": "unsigned short int", "i4": "int",
    "u4": "uint32_t", "i8": "long long int", "f4": "float", "f8": "double",
}  # fmt: skip


@st.composite
def text_files(draw):
    """An NRRD or MetaImage file of any kind that is read."""
    kind, order = draw(st.sampled_from(list(META_TYPES))), draw(st.sampled_from("<>"))
    volumes = draw(st.sampled_from(["one", "first", "last"]))
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    turn = nib.eulerangles.euler2mat(
        *draw(st.tuples(*[st.integers(-8, 8).map(lambda n: n / 8)] * 3))
    )
    spacing = draw(st.tuples(*[st.integers(1, 90).map(lambda n: n / 10)] * 3))
    origin = draw(st.tuples(*[st.integers(-800, 800).map(lambda n: n / 8)] * 3))
    packed = draw(st.booleans())
    axes = {"one": shape, "first": (2, *shape), "last": (*shape, 2)}[volumes]
    data = np.arange(np.prod(axes)).astype(np.dtype(kind).newbyteorder(order)).tobytes()
    space = draw(st.sampled_from(["LPS", "right-anterior-superior", "LAS"]))
    big, sizes = order == ">", " ".join(map(str, axes))
    if draw(st.booleans()):
        vectors = [f"({','.join(map(repr, v))})" for v in (turn * spacing).T.tolist()]
        kinds, none = ["domain"] * 3, {"one": [], "first": [0], "last": [3]}[volumes]
        for at in none:
            kinds.insert(at, draw(st.sampled_from(["list", "vector"])))
            vectors.insert(at, "none")
        fields = {
            "type": NRRD_TYPES[kind], "dimension": str(len(axes)), "sizes": sizes, "space": space,
            "space_directions": " ".join(vectors), "kinds": " ".join(kinds),
            "endian": "big" if big else "little", "encoding": "gzip" if packed else "raw",
            "space_origin": f"({','.join(map(repr, origin))})",
        }  # fmt: skip
        return "x.nrrd", nrrd(gzip.compress(data) if packed else data, **fields)
    several = volumes == "last"
    matrix, more = np.eye(3 + several), [1.0] * several
    matrix[:3, :3] = turn.T
    fields = {
        "NDims": str(3 + several), "DimSize": " ".join(map(str, axes[volumes == "first" :])),
        "BinaryDataByteOrderMSB": str(big),
        "TransformMatrix": " ".join(map(repr, matrix.ravel().tolist())),
        "Offset": " ".join(map(repr, [*origin, *more])),
        "ElementSpacing": " ".join(map(repr, [*spacing, *more])),
        "ElementType": f"MET_{META_TYPES[kind]}",
        "ElementNumberOfChannels": "2" if volumes == "first" else "1",
    }  # fmt: skip
    if packed:
        data, fields["CompressedData"] = zlib.compress(data), "True"
    return "x.mha", meta(data, **fields)


@settings(max_examples=150)
@given(text_files(), st.sampled_from([16, 2**20]))
def test_files_are_what_simpleitk_reads(tmp_path_factory, made, portion):
    name, data = made
    path = stored(tmp_path_factory.getbasetemp(), data, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(itk_file, "PORTION", portion)
        file = formats.open_volume(path)
        several = len(file.shape) == 4
        found = [file.image(channel) for channel in (range(2) if several else [None])]
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image)
    values = np.moveaxis(values, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else values
    values = values.T.reshape(*found[0][0].shape, -1, order="F").astype(np.float32)
    np.testing.assert_array_equal(np.stack([array for array, *_ in found], axis=-1), values)
    axes = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3]
    affine[:3, :3] *= image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    np.testing.assert_allclose(found[0][1].affine, LPS @ affine, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_real_scan_is_the_same_in_every_format(tmp_path, shared_data, suffix):
    folder = shared_data / "brats" / "BraTS2021_00495"
    source, path = folder / f"{folder.name}_flair.nii.gz", tmp_path / f"x{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(source)), str(path), useCompression=True)
    expected, grid = formats.read_image(source)
    array, found = formats.read_image(path)
    np.testing.assert_array_equal(array, expected)
    assert found.fits(grid, 1e-3)


FLOATS = VALUES.astype(np.float32)
FLOATS[1, 2, 3] = np.nan
INFINITE = VALUES.astype(np.float64)
INFINITE[0] = 1e300
RGB = {"dimension": "4", "sizes": "3 5 6 7", "kinds": "RGB-color domain domain domain",
       "space_directions": "none (1.5,0,0) (0,1.25,0) (0,0,2)"}  # fmt: skip
COMPLEX = sitk.GetImageFromArray(np.zeros((7, 6, 5), np.complex64))
HUGE = "100000 100000 100000"

NAN = (
    "give the number that replaces them in the column <modality>_nan of a dataset table, or "
    "replace them in a copy of it"
)
BAD = [
    pytest.param("x.nrrd", nrrd(BYTES + b"1"), FileFormatError,
        "holds 1 bytes more than its header promises; expected nothing behind "
        "the voxels; export it again", id="a byte too many"),
    pytest.param("x.nrrd", nrrd(gzip.compress(BYTES + b"12"), encoding="gzip"), FileFormatError,
        "holds 2 bytes more than its header promises; expected nothing behind "
        "the voxels; export it again", id="packed, 2 too many"),
    pytest.param("x.mha", meta(CompressedDataSize="99"), FileFormatError,
        "header says CompressedDataSize '99'; expected CompressedData = True as well; save it "
        "again",
        id="packed or not"),
    pytest.param("x.mha", meta().replace(b"Offset =", b"Offset", 1), FileFormatError,
        "damaged header: line 7 is no field, or one that came before; expected `Name = value`, "
        "each once; save it again", id="a line that is no field"),
    pytest.param("x.mha", b"NDims = 3\n" + meta(), FileFormatError,
        "damaged header: line 3 is no field, or one that came before; expected `Name = value`, "
        "each once; save it again", id="a field twice"),
    pytest.param("x.nrrd", nrrd(BYTES[:-1]), FileFormatError,
        "truncated: header promises 210 bytes of voxels, x.nrrd can hold at most 209; expected "
        "all of them; copy or export it again", id="NRRD, a byte short"),
    pytest.param("x.mha", meta(BYTES[:-1]), FileFormatError,
        "truncated: header promises 210 bytes of voxels, x.mha can hold at most 209; expected "
        "all of them; copy or export it again", id="MetaImage, a byte short"),
    pytest.param("x.nrrd", nrrd(b""), FileFormatError,
        "truncated: header promises 210 bytes of voxels, x.nrrd can hold at most 0; expected all "
        "of them; copy or export it again", id="NRRD, header alone"),
    pytest.param("x.nrrd", nrrd(PACKED[:-1], encoding="gzip"), FileFormatError,
        "truncated or damaged voxels in x.nrrd (the stream ends before its end is marked); "
        "expected all of them; copy or export it again", id="gzip, a byte short"),
    pytest.param("x.nrrd", nrrd(gzip.compress(BYTES[:-2]), encoding="gzip"), FileFormatError,
        "truncated: 2 bytes of its voxels are missing; expected all of them; copy or export it "
        "again",
        id="gzip, 2 short"),
    pytest.param("x.mha", meta(DEFLATED, CompressedData="True", CompressedDataSize="300"),
        FileFormatError,
        "truncated: header promises 300 bytes of compressed voxels, x.mha holds 221; expected all "
        "of them; copy or export it again", id="zlib, too large a size"),
    pytest.param("x.mha", meta(DEFLATED[:-9], CompressedData="True"), FileFormatError,
        "truncated or damaged voxels in x.mha (the stream ends before its end is marked); "
        "expected all of them; copy or export it again", id="zlib, 9 bytes short"),
    pytest.param("x.mha", meta(zlib.compress(BYTES[:100]), CompressedData="True"), FileFormatError,
        "truncated: 110 bytes of its voxels are missing; expected all of them; copy or export it "
        "again",
        id="zlib, 110 short"),
    pytest.param("x.mha", meta(DEFLATED, CompressedData="True", CompressedDataSize="0"),
        FileFormatError,
        "header says CompressedDataSize '0'; expected the bytes that follow; save it again",
        id="zlib, no size"),
    pytest.param("x.mha", meta(DEFLATED, CompressedData="True", CompressedDataSize="99"),
        FileFormatError,
        "truncated or damaged voxels in x.mha (the stream ends before its end is marked); "
        "expected all of them; copy or export it again", id="zlib, too small a size"),
    pytest.param("x.nrrd", nrrd(encoding="gzip", sizes=HUGE), FileFormatError,
        "truncated: header promises 1000000000000000 bytes of voxels, x.nrrd can hold at most "
        "216720; expected all of them; copy or export it again", id="NRRD, bomb"),
    pytest.param("x.mha", meta(DimSize=HUGE), FileFormatError,
        "truncated: header promises 1000000000000000 bytes of voxels, x.mha can hold at most "
        "210; expected all of them; copy or export it again", id="MetaImage, bomb"),
    pytest.param("x.nrrd", nrrd(FLOATS.tobytes(order="F"), type="float", endian="little"),
        IntensityError,
        "1 voxels are NaN or infinite; expected finite intensities; " + NAN, id="NRRD, NaN"),
    pytest.param("x.mha", meta(FLOATS.tobytes(order="F"), ElementType="MET_FLOAT"), IntensityError,
        "1 voxels are NaN or infinite; expected finite intensities; " + NAN, id="MetaImage, NaN"),
    pytest.param("x.mha", meta(INFINITE.tobytes(order="F"), ElementType="MET_DOUBLE"),
        IntensityError,
        "42 voxels are NaN or infinite; expected finite intensities; " + NAN, id="1e300"),
    pytest.param("x.nrrd", nrrd(BYTES[:30], dimension="2", sizes="5 6", without=WORLD),
        FileFormatError,
        "has shape (5, 6); expected three axes; choose another file", id="NRRD, 2-D"),
    pytest.param("x.mha", meta(BYTES[:30], NDims="2", DimSize="5 6", TransformMatrix="1 0 0 1",
        Offset="0 0",
        ElementSpacing="1 1"), FileFormatError,
        "has shape (5, 6); expected three axes; choose another file", id="MetaImage, 2-D"),
    pytest.param("x.nrrd", nrrd(BYTES * 3, **RGB), FileFormatError,
        "voxels are colours; expected plain numbers, neither colours nor complex ones; export "
        "intensities", id="NRRD, colours"),
    pytest.param("x.mha", meta(BYTES * 3, ElementNumberOfChannels="3"), FileFormatError,
        "has shape (5, 6, 7, 3); expected three axes; name one of its 3 volumes, from 0, in the "
        "column <modality>_volume of a dataset table, or split the file", id="MetaImage, colours"),
    pytest.param("x.nhdr", nrrd(b"", data_file="none.raw"), FileFormatError,
        "its data file is missing; expected it beside the header; copy it into the folder of the "
        "header",
        id="NRRD, no data file"),
    pytest.param("x.mhd", meta(b"", data_file="none.raw"), FileFormatError,
        "its data file is missing; expected it beside the header; copy it into the folder of the "
        "header",
        id="MetaImage, no data file"),
    pytest.param("x.mhd", meta(b"", data_file="/etc/hostname"), FileFormatError,
        "its data file lies elsewhere; expected one in the folder of the "
        "header; save both there", id="a data file anywhere"),
    pytest.param("x.nhdr", nrrd(b"", data_file="../x.raw"), FileFormatError,
        "its data file ../x.raw lies elsewhere; expected one in the folder of the "
        "header; save both there", id="a data file above"),
    pytest.param("x.mhd", meta(b"a.raw\n", data_file="LIST"), FileFormatError,
        "header names several data files; expected one; save it as one file", id="a list"),
    pytest.param("x.nhdr", nrrd(b"", data_file="x%02d.raw 1 7 1"), FileFormatError,
        "header names several data files; expected one; save it as one file", id="a pattern"),
    pytest.param("x.nrrd", nrrd(encoding="ascii"), FileFormatError,
        "header says encoding 'ascii'; expected raw or gzip; save it again", id="NRRD, as text"),
    pytest.param("x.mha", meta(BinaryData="False"), FileFormatError,
        "header says BinaryData 'False'; expected True; save it again", id="MetaImage, as text"),
    pytest.param("x.nrrd", nrrd(line_skip="2"), FileFormatError,
        "header says line skip '2'; expected 0; save it again", id="lines to skip"),
    pytest.param("x.nrrd", nrrd(PACKED, encoding="gzip", byte_skip="2"), FileFormatError,
        "header says byte skip '2'; expected 0; save it again", id="packed bytes to skip"),
    pytest.param("x.nrrd", nrrd(byte_skip="many"), FileFormatError,
        "header says byte skip another; expected a whole number; save it again", id="skip many"),
    pytest.param("x.mha", meta(b"junk" + BYTES, HeaderSize="4"), FileFormatError,
        "header says HeaderSize '4'; expected 0; save it again", id="HeaderSize in one file"),
    pytest.param("x.nrrd", nrrd(space_units='"cm" "cm" "cm"'), FileFormatError,
        "header says space units 'cm'; expected mm; save it again", id="NRRD, cm"),
    pytest.param("x.mha", meta(DistanceUnits="cm"), FileFormatError,
        "header says DistanceUnits 'cm'; expected mm; save it again", id="MetaImage, cm"),
    pytest.param("x.mha", meta(ElementToIntensityFunctionSlope="2"), FileFormatError,
        "header says ElementToIntensityFunctionSlope '2'; expected 1, intensities as "
        "they are stored; save it again", id="slope"),
    pytest.param("x.nrrd", nrrd(space="scanner-xyz"), FileFormatError,
        "header says space 'scanner-xyz'; expected left-posterior-superior or one like "
        "it; save it again", id="another world"),
    pytest.param("x.nrrd", nrrd(space_directions="(1,0,0) (0,1,0) none"), FileFormatError,
        "header says space directions '(1,0,0) (0,1,0) none'; expected one for each of "
        "three axes; save it again", id="an axis without direction"),
    pytest.param("x.nrrd", nrrd(space_directions="(1,0,0) (1,0,0) (0,0,2)"), GridError,
        "the affine's axes [[-1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]] do not span a "
        "volume; expected three of some length, in different directions; mend the header",
        id="flat axes"),
    pytest.param("x.mha", meta(ElementSpacing="1 1 0"), GridError,
        "header says a spacing of (1.0, 1.0, 0.0) mm; expected positive numbers; mend "
        "the header",
        id="spacing 0"),
    pytest.param("x.mha", meta(ElementSpacing="1 1 -2"), GridError,
        "header says a spacing of (1.0, 1.0, -2.0) mm; expected positive numbers; mend "
        "the header",
        id="spacing below 0"),
    pytest.param("x.mha", meta(DimSize="5 6 0"), FileFormatError,
        "header says DimSize '5 6 0'; expected NDims whole numbers from 1 on; save it "
        "again",
        id="no voxels"),
    pytest.param("x.mha", meta(DimSize="5 6 -7"), FileFormatError,
        "header says DimSize '5 6 -7'; expected NDims whole numbers from 1 on; save it "
        "again",
        id="fewer than none"),
    pytest.param("x.mha", meta(NDims="7"), FileFormatError,
        "header says DimSize '5 6 7'; expected NDims whole numbers from 1 on; save it "
        "again",
        id="seven axes of three"),
    pytest.param("x.mha", meta(ElementType="MET_FOO"), FileFormatError,
        "header says ElementType another; expected one like MET_SHORT; save it again",
        id="no type"),
    pytest.param("x.nrrd", nrrd(type="block"), FileFormatError,
        "header says type 'block'; expected one like short; save it again", id="blocks"),
    pytest.param("x.nrrd", nrrd(kinds="domain domain 3D-matrix"), FileFormatError,
        "header says kinds another; expected axes of space, and a list of numbers at most; save it "
        "again", id="matrices"),
    pytest.param("x.nrrd", nrrd(BYTES * 2, type="uint16"), FileFormatError,
        "header says endian ''; expected little or big; save it again", id="no order of bytes"),
    pytest.param("x.nrrd", nrrd(dimension="4"), FileFormatError,
        "header says sizes '5 6 7'; expected dimension whole numbers from 1 on; save it again",
        id="four axes of three"),
    pytest.param("x.nrrd", nrrd(sizes="5 6 1_0"), FileFormatError,
        "header says sizes another; expected dimension whole numbers from 1 on; save it again",
        id="a size that is none"),
    pytest.param("x.nrrd", nrrd(space_origin="(1,2)"), FileFormatError,
        "header says space origin '(1,2)'; expected 3 numbers; save it again", id="short origin"),
    pytest.param("x.nrrd", nrrd(without=WORLD, axis_mins="1 2 3"), FileFormatError,
        "header says axis mins '1 2 3'; expected space directions and space origin; save it again",
        id="axis mins"),
    pytest.param("x.nrrd", nrrd(BYTES * 2, dimension="4", sizes="5 2 6 7",
        space_directions="(1,0,0) none (0,1,0) (0,0,2)"), FileFormatError,
        "header says space directions '(1,0,0) none (0,1,0) (0,0,2)'; expected those of space "
        "beside each other; save it again", id="a list in the midst"),
    pytest.param("x.nrrd", nrrd().replace(b"sizes:", b"type: uint8\nsizes:"), FileFormatError,
        "damaged header: line 5 is no field, or one that came before; expected `name: value`, each "
        "once; save it again", id="NRRD, a field twice"),
    pytest.param("x.mha", meta(Origin="1 2 3"), FileFormatError,
        "header says Origin '1 2 3'; expected the numbers of Offset; save it again",
        id="two origins"),
    pytest.param("x.mha", meta()[:60], FileFormatError,
        "damaged header: line 4 is no field, or one that came before; expected `Name = value`, "
        "each once; save it again", id="half a line"),
    pytest.param("x.mha", meta(CompressedData="=False"), FileFormatError,
        "header says CompressedData another; expected True or False; save it again",
        id="neither true nor false"),
    pytest.param("x.mha", meta(ElementSpacing="1.5 1.252"), FileFormatError,
        "header says ElementSpacing '1.5 1.252'; expected 3 numbers; save it again",
        id="two numbers of three"),
    pytest.param("x.mha", meta(Offset="1 2 nan"), FileFormatError,
        "header says Offset another; expected finite numbers; save it again", id="NaN offset"),
    pytest.param("x.mha", meta()[: meta().index(b"Offset")], FileFormatError,
        "ends within its header, before ElementDataFile; expected the whole header; copy or "
        "export it again",
        id="half a header"),
    pytest.param("x.nrrd", b"hello world" * 99, FileFormatError,
        "not an NRRD file: it does not begin as one; expected what its name says; "
        "copy or export it again", id="NRRD, text"),
    pytest.param("x.mhd", b"hello world" * 99, FileFormatError,
        "not a MetaImage file: it does not begin as one; expected what its name says; "
        "copy or export it again",
        id="MetaImage, text"),
    pytest.param("x.nrrd", b"", FileFormatError,
        "the file is empty; expected an image; copy or export it again", id="empty"),
]  # fmt: skip


@pytest.mark.hostile
@pytest.mark.parametrize(("name", "data", "error", "message"), BAD)
def test_bad_files(tmp_path, capfd, name, data, error, message):
    path = stored(tmp_path, data, name)
    with pytest.raises(error) as caught:
        formats.read_image(path)
    assert str(caught.value) == f"{path}: {message}"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "data", "notes"),
    [
        ("x.nrrd", nrrd(measurement_frame="(0,1,0) (1,0,0) (0,0,1)", sample_units="mGy"), []),
        ("x.nrrd", nrrd(thicknesses="5 5 5", centers="cell cell cell"), []),
        (
            "x.nrrd",
            nrrd(old_min="-1024", old_max="3071"),
            ["values were rounded from another range (old min, old max); read as stored"],
        ),
        ("x.mha", meta(AnatomicalOrientation="LPI", CenterOfRotation="9 9 9"), []),
        ("x.mha", meta(Modality="MET_MOD_CT", ElementMin="0", ElementMax="9"), []),
    ],
)
def test_what_moves_no_voxel_is_of_no_matter(tmp_path, name, data, notes):
    plain = formats.open_volume(
        stored(tmp_path, nrrd() if name == "x.nrrd" else meta(), name)
    ).image()
    file = formats.open_volume(stored(tmp_path, data, name))
    array, geometry, _ = file.image()
    np.testing.assert_array_equal(array, plain[0])
    assert geometry == plain[1]
    assert [str(note) for note in file.notes] == notes


def test_complex_numbers_are_refused(tmp_path):
    sitk.WriteImage(COMPLEX, str(tmp_path / "x.nrrd"))
    with pytest.raises(FileFormatError, match="voxels are complex numbers; expected plain numbers"):
        formats.read_image(tmp_path / "x.nrrd")


@pytest.mark.parametrize("at", [-1, -5, len(DEFLATED) // 2])
def test_what_simpleitk_takes_for_well_is_refused(tmp_path, at):
    """It prints that it cannot unpack a stream, and returns what was in memory."""
    data = bytearray(DEFLATED)
    data[at] ^= 1
    path = stored(tmp_path, meta(bytes(data), CompressedData="True"), "x.mha")
    with pytest.raises(FileFormatError, match="truncated"):
        formats.read_image(path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are any bytes")
def test_names_of_files(tmp_path):
    path = stored(tmp_path, nrrd(), "ünï #1 %d.nrrd")
    np.testing.assert_array_equal(formats.open_volume(path).labels()[0], VALUES)
    path = stored(tmp_path, nrrd(), os.fsdecode(b"\xff.nrrd"))
    np.testing.assert_array_equal(formats.open_volume(path).labels()[0], VALUES)


def test_a_data_file_that_may_not_be_read(tmp_path, monkeypatch):
    stored(tmp_path, PACKED, "x.raw")
    path = stored(tmp_path, nrrd(b"", data_file="x.raw", encoding="gzip"), "x.nhdr")
    opened = Path.open

    def refuse(self, *words):
        if self.name == "x.raw":
            raise PermissionError(13, "Permission denied")
        return opened(self, *words)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        FileFormatError, match=r"x.raw cannot be read \(Permission denied\); expected"
    ):
        formats.read_image(path)


def test_a_header_without_end_is_refused(tmp_path):
    path = stored(tmp_path, b"NRRD0005\n# ", "x.nrrd")
    os.truncate(path, 2**25)
    with pytest.raises(FileFormatError, match="its header does not end"):
        formats.read_image(path)


@given(st.sampled_from(["x.nrrd", "x.mha"]), st.integers(0, 10_000), st.integers(0, 255))
def test_any_damaged_file_is_read_or_refused_in_words(tmp_path_factory, name, at, byte):
    whole = (
        nrrd(PACKED, encoding="gzip") if name == "x.nrrd" else meta(DEFLATED, CompressedData="True")
    )
    data = bytearray(whole)
    data[at % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(bytes(data))
    for read in (formats.read_image, lambda path: formats.open_volume(path).labels()):
        try:
            array, geometry = read(path)
        except Vol3dSegError as error:
            if str(path) not in str(error) or "\n" in str(error):
                raise
        else:
            assert array.shape == geometry.shape


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)), ids=str)
def test_every_orientation_comes_back(tmp_path, order, flips, suffix):
    """48 ways to lay axes, obliquely: the same voxels at the same places, for SimpleITK as well."""
    turned = nib.eulerangles.euler2mat(0.2, -0.1, 0.15) @ np.diag(flips)[:, order]
    affine = np.eye(4)
    affine[:3, :3] = turned * (1.5, 0.75, 3.0)
    affine[:3, 3] = (-120.5, 33.25, 1000.125)
    grid, path = Geometry(SHAPE, affine), tmp_path / f"x{suffix}"
    formats.write(path, VALUES, grid)
    array, found = formats.open_volume(path).labels()
    np.testing.assert_array_equal(array, VALUES)
    assert found.fits(grid, 1e-4)
    np.testing.assert_allclose(found.affine, affine, rtol=1e-6, atol=1e-4)
    assert array.dtype == np.uint8
    oracle = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(oracle).T, VALUES)
    for voxel in ((0, 0, 0), (4, 5, 6), (1, 3, 2)):
        world = LPS @ affine @ (*voxel, 1)
        np.testing.assert_allclose(
            oracle.TransformIndexToPhysicalPoint(voxel), world[:3], atol=1e-4
        )


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
class TestWriting:
    @pytest.mark.parametrize("order", "CF")
    @pytest.mark.parametrize("kind", ["u1", "i1", "<u2", ">i2", "u4", "i4", "f4", "f8"])
    def test_what_is_written_is_read(self, tmp_path, suffix, kind, order):
        path, array = tmp_path / f"new/x{suffix}", np.array(VALUES, dtype=kind, order=order)
        formats.write(path, array, GRID)
        found, _ = formats.open_volume(path).labels()
        assert found.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, array)
        assert {p.name for p in path.parent.iterdir()} == {path.name, LIST_NAME}

    def test_several_volumes(self, tmp_path, suffix):
        path, array = tmp_path / f"x{suffix}", np.stack([VALUES, 9 - VALUES / 2], axis=-1)
        formats.write(path, array.astype(np.float32), GRID)
        file = formats.open_volume(path)
        for channel in range(2):
            found, grid, _ = file.image(channel)
            np.testing.assert_array_equal(found, array[..., channel].astype(np.float32))
            np.testing.assert_allclose(grid.affine, AFFINE, atol=1e-12)

    def test_the_bytes_do_not_depend_on_the_number_of_threads(self, tmp_path, suffix, monkeypatch):
        values = np.random.default_rng(0).normal(size=(128, 128, 50)).astype(np.float32)
        for threads in (1, 2, 5):
            name = "vol3dseg.formats.streams.usable_cores"
            monkeypatch.setattr(name, lambda threads=threads: threads)
            formats.write(tmp_path / f"{threads}{suffix}", values, Geometry(values.shape, AFFINE))
        assert len({path.read_bytes() for path in tmp_path.glob(f"*{suffix}")}) == 1
        oracle = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"1{suffix}")))
        np.testing.assert_array_equal(oracle.T, values)

    def test_a_kind_of_number_that_it_cannot_hold(self, tmp_path, suffix):
        with pytest.raises(FileFormatError, match="cannot hold voxels of complex64; expected"):
            formats.write(tmp_path / f"x{suffix}", VALUES.astype(np.complex64), GRID)
        assert not list(tmp_path.iterdir())

    def test_a_place_that_cannot_be_written(self, tmp_path, suffix):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            formats.write(tmp_path / "file" / f"x{suffix}", VALUES, GRID)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
    def test_a_full_disk_leaves_nothing(self, tmp_path, suffix):
        code = (
            "import resource, signal, sys, numpy as np\n"
            "from pathlib import Path\n"
            "from vol3dseg.errors import OutputError\n"
            "from vol3dseg.formats import names as formats\n"
            "from vol3dseg.space.geometry import Geometry\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
            "values = np.random.default_rng(0).random((20, 20, 20))\n"
            "try:\n"
            "    formats.write(Path(sys.argv[1]), values, Geometry(values.shape, np.eye(4)))\n"
            "except OutputError as error:\n"
            "    assert 'File too large' in str(error)\n"
            "else:\n"
            "    sys.exit('no error')\n"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path / f"x{suffix}"], check=True)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channel", [0, 1])
def test_every_format_mends_and_tells_its_grid(tmp_path, suffix, channel):
    """What a dataset table may ask for, whatever the format of its files."""
    values = np.stack([VALUES, VALUES + 1], axis=-1).astype(np.float32)
    values[1, 2, 3:6, channel] = np.nan, np.inf, -np.inf
    formats.write(tmp_path / f"x{suffix}", values, GRID)
    file = formats.open_volume(tmp_path / f"x{suffix}")
    assert file.geometry(channel).fits(GRID, 1e-4)
    array, geometry, replaced = formats.finite_image(file, channel, -5.0)
    assert (replaced, geometry) == (3, file.geometry(channel))
    np.testing.assert_array_equal(array, np.where(np.isfinite(values), values, -5)[..., channel])
    assert formats.finite_image(file, 1 - channel, -5.0)[2] == 0
    with pytest.raises(IntensityError, match="3 voxels are NaN"):
        formats.finite_image(file, channel)
