"""DICOM series and DICOM-SEG, through pydicom and highdicom."""
