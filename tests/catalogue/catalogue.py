"""All rows, in the order of the page."""

from tests.catalogue.dicom import DICOM
from tests.catalogue.files import FILES
from tests.catalogue.geometry import GEOMETRY
from tests.catalogue.values import VALUES

GROUPS = (GEOMETRY, VALUES, FILES, DICOM)
ROWS = tuple(row for group in GROUPS for row in group.rows)
