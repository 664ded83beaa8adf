"""A fuzzer: files that were harmed on purpose are read right or refused in one line.

python -m tests.fuzzing [--seed N] [--count N] [--only FAMILY]

`samples*.py` make small whole files, `mutations.py`, `nifti_fields.py` and `dicom_elements.py` harm
them, `promise.py` holds a reader to what is promised, `children.py` does it in processes that may
die. The same seed and number always make the same file, so a finding is made again by
`--only FAMILY --seed N --first NUMBER --count 1 --keep FOLDER`.
"""
