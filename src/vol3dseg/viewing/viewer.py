"""What `vol3dseg view` does: find the cases, serve a page on them, open it in the browser."""

import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Literal

from pydantic import BaseModel, Field

from vol3dseg.datasets.splits import PARTS
from vol3dseg.errors import DatasetError, RunError
from vol3dseg.reporting.score_files import SUMMARY_NAME
from vol3dseg.schema import Real, read_json
from vol3dseg.viewing.opened_case import OpenedCase, Scores
from vol3dseg.viewing.serving import ViewServer
from vol3dseg.viewing.shown_cases import gather


def view(
    images: str | Path | Sequence[str | Path],
    segmentation: str | Path | None = None,
    reference: str | Path | None = None,
    report: str | Path | None = None,
    config: str | Path | None = None,
    port: int = 0,
    browser: bool = True,
    started: Callable[[str, Sequence[str]], None] = lambda url, notes: None,
) -> None:
    """Show images and label maps on a local page, until it is interrupted by Ctrl-C.

    The page is for this machine alone, and for whoever knows its address.

    Parameters
    ----------
    images : str, Path or sequence of them
        The images of one case, each a file or a folder with one DICOM series; or one data set in a
        known layout, or a dataset table.
    segmentation : str, Path or None
        The label map of the case; or a folder of label maps named by case, such as `vol3dseg
        predict` writes: then cases without one are not shown.
    reference : str, Path or None
        The same of references, or a data set or a dataset table; None takes the label maps that
        `images` have.
    report : str, Path or None
        A folder that `vol3dseg evaluate` wrote: scores of cases that it has are not computed.
    config : str, Path or None
        A preset or a YAML file that names the labels; None takes them from the predictions.json
        beside the predictions, or the dataset.json of a data set, or names them by their values.
    port : int
        Where the page is served, on the loopback interface; 0 is any that is free.
    browser : bool
        Whether the page is opened in the browser.
    started : callable
        Called with the address of the page, and with notes on what is not shown.

    Raises
    ------
    ConfigError
        The config is not valid.
    DatasetError
        There are no images, or their layout is not known.
    EvaluationError
        Label maps are missing or fit none of the cases, or predictions.json is damaged.
    FileFormatError, GridError
        A file of the only case cannot be read; of several cases, the page says so.
    OutputError
        The port is not free.
    RunError
        There is no report.
    """
    paths = [Path(path) for path in ([images] if isinstance(images, str | Path) else images)]
    if not paths:
        raise DatasetError("no image is given", expected="at least one", remedy="name it")
    given, known = (None if path is None else Path(path) for path in (segmentation, reference))
    exhibition = gather(paths, given, known, config)
    if len(exhibition.cases) == 1:
        OpenedCase(exhibition.cases[0], exhibition).require_readable()
    reported = read_report(Path(report)) if report is not None else {}
    with ViewServer(exhibition, reported, port) as server, suppress(KeyboardInterrupt):
        started(server.url, exhibition.notes)
        if browser:
            Thread(target=webbrowser.open, args=[server.url], daemon=True).start()
        server.serve_forever()


class _Summary(BaseModel):
    format: Literal["vol3dseg.scores"]
    scores: dict[str, dict[str, dict[str, Real | None]]] = Field(min_length=1)


def read_report(folder: Path) -> Mapping[str, Scores]:
    """Return the scores of cases in a report, or in each part of one by a split.

    RunError: there is no summary.json that `vol3dseg evaluate` wrote.
    """
    parts = [folder / part for part in PARTS if (folder / part / SUMMARY_NAME).exists()]
    scores: dict[str, Scores] = {}
    for place in parts or [folder]:
        found = read_json(
            _Summary,
            place / SUMMARY_NAME,
            RunError,
            expected="what vol3dseg evaluate writes",
            remedy="give the folder that it wrote to, or leave out --report",
        )
        scores |= found.scores
    return scores
