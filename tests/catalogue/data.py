"""A small good data set, and ways to spoil it."""

import csv
import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 10, 8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
FLAIR, T1 = np.random.default_rng(5).integers(1, 1000, (2, *SHAPE)).astype(np.int16)
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[2:9, 2:8, 2:6], LABEL[3:7, 3:6, 3:5], LABEL[4:6, 4:5, 3:4] = 2, 4, 1
MODALITIES = ("flair", "t1")


class DataSet:
    """A table of one case named `one`: two images and a label map, small NIfTI files, unpacked.

    Parameters
    ----------
    folder : Path
        Gets `data`, with the table `cases.csv` and the files that it names; `out` is for what comes
        of it.
    slices : callable
        Makes the slices of a DICOM series; see the fixture `dicom_series`.
    """

    def __init__(self, folder: Path, slices: Callable | None = None) -> None:
        self.folder, self.out = folder / "data", folder / "out"
        self.slices = slices
        self.before = set[str]()  # names of what stands in `out` already
        self.given = self.folder / "cases.csv"
        self.folder.mkdir()
        self.row = {"id": "one", "flair": "flair.nii", "t1": "t1.nii", "label": "label.nii"}
        self.nifti("flair.nii", FLAIR)
        self.nifti("t1.nii", T1)
        self.nifti("label.nii", LABEL)
        self.table()

    def table(self, **columns: str) -> None:
        """Write the table anew, with other columns; None takes one away."""
        changed = {**self.row, **columns}
        self.row = {name: value for name, value in changed.items() if value is not None}
        self.rows(self.row)

    def rows(self, *rows: dict[str, str]) -> None:
        """Write a table of these rows."""
        with self.given.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def nifti(self, name, array, affine=AFFINE, kind=nib.Nifti1Image, **fields) -> None:
        """Write a NIfTI file, packed if its name says so, with header fields changed."""
        image = kind(array, affine, dtype=array.dtype)
        for field, value in fields.items():
            image.header[field] = value
        content = image.to_bytes()
        packed = name.lower().endswith(".gz")
        # Stored, not deflated: sizes and checksums in messages are the same with any zlib.
        self.write(name, gzip.compress(content, 0, mtime=0) if packed else content)

    def nrrd(self, array: np.ndarray, cut: int = 0, **fields: str) -> None:
        """Give the image as NRRD, some bytes short; `space_origin=...` is the field "space origin".

        A field without a value is left out.
        """
        every = {
            "type": {"i2": "int16", "f4": "float"}[array.dtype.str[1:]],
            "dimension": "3",
            "space": "left-posterior-superior",
            "sizes": " ".join(map(str, array.shape)),
            "space_directions": "(1,0,0) (0,1,0) (0,0,2)",
            "endian": "little",
            "encoding": "raw",
            "space_origin": "(0,0,0)",
        } | fields
        lines = [f"{name.replace('_', ' ')}: {value}\n" for name, value in every.items() if value]
        voxels = array.tobytes(order="F")
        header = "".join(["NRRD0004\n", *lines, "\n"])
        self.write("flair.nrrd", header.encode() + voxels[: len(voxels) - cut])

    def write(self, name: str, content: bytes) -> None:
        """Write a file, and give it to the modality of its name, if that is one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        modality = path.name.split(".")[0]
        if modality in self.row and self.row[modality] != name:
            (self.folder / self.row[modality]).unlink(missing_ok=True)
            self.table(**{modality: name})

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return (self.folder / name).read_bytes()

    def patch(self, name: str, offset: int, kind: str, *values: float) -> None:
        """Overwrite a field of a header, whatever any library thinks of it."""
        content = bytearray(self.read(name))
        struct.pack_into(f"<{kind}", content, offset, *values)
        self.write(name, bytes(content))

    def series(self, spoil: Callable[[list], None] = list, folder: str = "flair") -> None:
        """Give the image as a DICOM series, whose slices `spoil` changes first."""
        from pydicom.config import disable_value_validation

        slices = self.slices(FLAIR, Modality="MR")
        spoil(slices)
        place = self.folder / folder
        place.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(slices, start=1):
            with disable_value_validation():
                one.save_as(place / f"{number}.dcm", enforce_file_format=True)
        self.table(flair=folder)


Make = Callable[[DataSet], None]


def as_it_is(data: DataSet) -> None:
    """Leave a good data set good."""
