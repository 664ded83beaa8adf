"""`index.json`: what a prepared folder holds, and how to be sure of it."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Literal

from pydantic import model_validator

from vol3dseg.config import Config
from vol3dseg.datasets.signature import Signature
from vol3dseg.errors import StoreError, reading, some_of
from vol3dseg.files import sha256_json
from vol3dseg.many_records import write_by_line
from vol3dseg.quality.appearance import Appearance
from vol3dseg.recipe import Recipe
from vol3dseg.schema import Count, Frozen, Millimetres, Sides, read_json
from vol3dseg.space.labels import LabelSet
from vol3dseg.written import sha256_file

# In a prepared folder: two files, the second where no config was given, and a folder.
FILE_NAME, PLAN, CASES = "index.json", "plan.yaml", "cases"


class CaseEntry(Frozen):
    """One prepared case.

    Attributes
    ----------
    id, subject : str
    file : str
        HDF5 file, relative to the prepared folder.
    bytes : int
    sha256 : str
        Of the file.
    contents : str
        SHA-256 of its voxels and where they lie: the same whenever the same scan is prepared.
    sources : Signature
        Of which files it was made and how they were read; a case is made again when that changes.
    shape : (3,) tuple of int
        Voxels of the working grid that are stored.
    source_shape : (3,) tuple of int
    source_spacing_mm : (3,) tuple of float
    class_voxels : mapping from class name to voxels of the source, or None without a label map
    missing : tuple of str
        Modalities of the recipe that the case lacks.
    unannotated : tuple of str
        Classes that nobody has looked for in its label map.
    likely_labels : tuple of str
        Without a label map: files that look like one but are named otherwise, each with its folder.
    appearance : Appearance
        What the scan looks like as read.
    labels_outside : int
        Foreground voxels of the source that lie outside the box and are lost.
    labels_changed : int
        Voxels of the source whose label does not survive the way to the working grid and back.
    replaced : mapping from modality to int
        Voxels that were NaN or infinite and were replaced, as the dataset table asks for.
    notes, repairs : tuple of str
        What was harmlessly put right in files, and what only because repairs were allowed.
    """

    id: str
    subject: str
    file: str
    bytes: Count
    sha256: str
    contents: str
    sources: Signature
    shape: Sides
    source_shape: Sides
    source_spacing_mm: tuple[Millimetres, Millimetres, Millimetres]
    class_voxels: dict[str, Count] | None
    missing: tuple[str, ...] = ()
    unannotated: tuple[str, ...] = ()
    likely_labels: tuple[str, ...] = ()
    appearance: Appearance
    labels_outside: Count = 0
    labels_changed: Count = 0
    replaced: dict[str, Count] = {}
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the case should be looked at, in words."""
        said = []
        if self.class_voxels and not any(list(self.class_voxels.values())[1:]):
            said.append("its label map is empty; its patches show only background")
        if self.labels_outside:
            said.append(
                f"{self.labels_outside} labelled voxels lie outside the non-zero box and are lost; "
                "check the image, or use crop: none"
            )
        return tuple(said)

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each class that was looked for, background too, in the source [ml]."""
        voxel_ml = math.prod(self.source_spacing_mm) / 1000
        known = (self.class_voxels or {}).items()
        return {name: n * voxel_ml for name, n in known if name not in self.unannotated}


class Index(Frozen):
    """What a prepared folder holds.

    Attributes
    ----------
    config : Config
        What the folder was prepared with.
    fingerprint : str
        Of the config's recipe.
    left_out, failed : mapping from case to the reason in words
    tracebacks : mapping from case to where it failed, of those for which nobody foresaw the reason
    cases : tuple of CaseEntry
        In order of their names.
    """

    format: Literal["vol3dseg.prepared"] = "vol3dseg.prepared"
    version: Literal[9] = 9
    config: Config
    fingerprint: str
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    tracebacks: dict[str, str] = {}
    cases: tuple[CaseEntry, ...] = ()

    @model_validator(mode="after")
    def _each_case_once(self) -> "Index":
        if twice := [name for name, n in Counter(e.id for e in self.cases).items() if n > 1]:
            raise ValueError(f"cases {some_of(twice)} are there twice")
        return self

    @property
    def unlabelled(self) -> str:
        """Which cases have no label map, in words, and what looks like one; empty if all have."""
        without = [entry for entry in self.cases if entry.class_voxels is None]
        if not without:
            return ""
        have, are = ("has", "is") if len(without) == 1 else ("have", "are")
        said = (
            f"{len(without)} of {len(self.cases)} prepared cases {have} no label map, and {are} "
            f"not learned from: {some_of([entry.id for entry in without])}"
        )
        likely = [name for entry in without for name in entry.likely_labels]
        if not likely:
            return said
        return (
            f"{said}; {some_of(likely)} may be meant, but must be named as the layout has it, or "
            "in the column label of a dataset table"
        )

    @property
    def unseen(self) -> tuple[str, ...]:
        """Which cases of the data set training does not see, in words, a line for each reason."""
        others = {"left out": self.left_out, "failed": self.failed}
        said = [
            f"{len(ids)} {reason} in preprocess, and not learned from: {some_of(list(ids))}"
            for reason, ids in others.items()
            if ids
        ]
        return tuple(filter(None, (self.unlabelled, *said)))

    @property
    def outside(self) -> dict[str, int]:
        """How many cases of the data set are in no part of a split, by the reason."""
        unlabelled = sum(entry.class_voxels is None for entry in self.cases)
        counts = {
            "no label map": unlabelled, "left out": len(self.left_out), "failed": len(self.failed)
        }  # fmt: skip
        return {reason: count for reason, count in counts.items() if count}

    @property
    def missing(self) -> dict[str, int]:
        """How many cases lack a modality, by its name, of those that any case lacks."""
        counts = Counter(name for entry in self.cases for name in entry.missing)
        return {name: counts[name] for name in self.recipe.modalities if name in counts}

    @property
    def incomplete(self) -> tuple[str, ...]:
        """How many cases lack each modality or class, a line for each that any case lacks."""
        total = len(self.cases)
        unseen = Counter(name for entry in self.cases for name in entry.unannotated)
        return (
            *(f"{n} of {total} prepared cases lack {name}" for name, n in self.missing.items()),
            *(f"in {n} of {total} nobody has looked for {name}" for name, n in unseen.items()),
        )

    @property
    def recipe(self) -> Recipe:
        """What was done to the scans."""
        return self.config.recipe

    @property
    def labels(self) -> LabelSet:
        """What the class indices mean."""
        return self.config.labels

    def entry(self, case_id: str) -> CaseEntry:
        """Return the entry of a case, or raise StoreError."""
        for entry in self.cases:
            if entry.id == case_id:
                return entry
        raise StoreError(
            "is not in the prepared folder", where=f"case {case_id}", remedy="prepare it first"
        )

    def require_made_with(self, config: Config, folder: str | Path) -> None:
        """Refuse a config by which the cases would be others than those that are stored.

        Regions, required classes, values to write and codes are only said of what is stored, and
        may differ.

        Raises
        ------
        RecipeMismatch
        StoreError
            Classes, their order, or the values that are read for them differ.
        """
        config.recipe.require_equal(self.recipe, "the config", str(folder))
        differences = config.labels.differences(self.labels, "order", "read")
        if differences:
            raise StoreError(
                f"was prepared with other labels: {differences}",
                where=folder,
                expected="those of the config",
                remedy="prepare with this config into another folder",
            )

    def data_fingerprint(self, case_ids: Iterable[str]) -> str:
        """Return the SHA-256 over names and contents of these cases."""
        return sha256_json([[i, self.entry(i).contents] for i in sorted(case_ids)])

    def save(self, folder: str | Path, more: Mapping[str, str] | None = None) -> None:
        """Write `index.json` into `folder`, atomically; `more` has the JSON of further cases."""
        own, more = {entry.id: entry for entry in self.cases}, more or {}
        lines = (
            more[name] if name in more else own[name].model_dump_json()
            for name in sorted({*own, *more})
        )
        write_by_line(Path(folder) / FILE_NAME, self, "[]", lines)


def load_index(folder: Path) -> Index:
    """Read `index.json` of a prepared folder.

    StoreError: it is missing, damaged, of another version, or its fingerprint is not its recipe's.
    """
    path = folder / FILE_NAME
    wanted, again = "a folder made by vol3dseg preprocess", "prepare into a new folder"
    index = read_json(Index, path, StoreError, expected=wanted, remedy=again)
    if index.fingerprint != index.recipe.fingerprint:
        raise StoreError("the recipe does not match its fingerprint", where=path, remedy=again)
    return index


def verify(folder: Path, entry: CaseEntry) -> Path:
    """Return the path of a prepared case after checking its size and SHA-256.

    StoreError: it is missing, is not the one that was written, or lies outside of the folder.
    """
    path, named = folder / entry.file, PurePath(entry.file)
    if named.is_absolute() or ".." in named.parts:
        raise StoreError(
            f"{FILE_NAME} names a file outside of the folder",
            where=folder,
            expected="prepared cases in it",
            remedy="prepare into a new folder",
        )
    expected, remedy = f"the {entry.bytes} bytes that {FILE_NAME} names", "run preprocess again"
    with reading(path, StoreError, expected=expected, remedy=remedy):
        size = path.stat().st_size
        if size == entry.bytes and sha256_file(path) == entry.sha256:
            return path
    found = "has another SHA-256" if size == entry.bytes else f"has {size} bytes"
    raise StoreError(found, where=path, expected=expected, remedy=remedy)
