"""All rows, in the order of the page."""

from tests.catalogue.cluster_rows import CLUSTER
from tests.catalogue.dicom_rows import DICOM
from tests.catalogue.files_rows import FILES
from tests.catalogue.geometry_rows import GEOMETRY
from tests.catalogue.judged_rows import JUDGED
from tests.catalogue.naming_rows import NAMING
from tests.catalogue.signed_rows import SIGNED
from tests.catalogue.values_rows import VALUES

GROUPS = (GEOMETRY, VALUES, FILES, NAMING, JUDGED, DICOM, SIGNED, CLUSTER)
ROWS = tuple(row for group in GROUPS for row in group.rows)
