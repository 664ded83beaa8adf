"""NIfTI, through nibabel."""
