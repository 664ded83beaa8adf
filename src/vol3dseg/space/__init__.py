"""Grids and what lies on them: geometry, axes, resampling, labels, volumes."""

from vol3dseg.extras import hidden

# nibabel takes pydicom for extensions of headers, which are not read here; that costs 0.1 s, and
# opens a socket where requests is installed.
with hidden("pydicom"):
    import nibabel as nibabel
