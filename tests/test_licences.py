"""Under which licences packages may be installed: a closed list, and each other one has a name."""

import re
from importlib.metadata import distributions

import pytest

# Those that ask for no more than notices, or for the source of themselves alone where they are
# changed (MPL, LGPL: they are imported as they are). None asks anything of who imports them.
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0"),
    *("MIT-CMU", "PSF-2.0", "Unlicense", "Zlib"),
    *("LGPL-3.0-or-later", "MPL-2.0"),
}
# What metadata say that is no expression of SPDX.
WORDS = {
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache License 2.0": "Apache-2.0",
}
# What metadata do not say, from the text of the licence that the package brings.
READ = {"namex": "Apache-2.0", "sigstore-models": "MIT"}


def licence_of(metadata):
    """The expression of a package: as SPDX has it, else what its classifiers say, or its words."""
    if expression := metadata.get("License-Expression"):
        return expression
    found = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: OSI Approved :: ")
    ]
    said = found or [line for line in [metadata.get("License", "")] if line and "\n" not in line]
    words = " AND ".join(WORDS.get(line, line) for line in said)
    return words or READ.get(metadata["Name"].lower(), "")


def allowed(expression):
    """Whether one of several licences is on the list, or all that hold together are."""
    while (inner := re.search(r"\(([^()]*)\)", expression)) is not None:
        expression = expression.replace(inner[0], "MIT" if allowed(inner[1]) else "refused")
    return any(
        all(part.strip() in ALLOWED for part in choice.split(" AND "))
        for choice in expression.split(" OR ")
    )


def refused(packages):
    said = {each.metadata["Name"]: licence_of(each.metadata) for each in packages}
    return [f"{name}: {licence or 'no licence'}" for name, licence in said.items() if name
            and not allowed(licence)]  # fmt: skip


def test_what_is_installed_may_be():
    assert refused(distributions()) == []


@pytest.mark.parametrize(
    ("expression", "may_be"),
    [
        ("MIT", True),
        ("GPL-3.0-or-later", False),
        ("", False),
        ("MIT OR GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("MIT AND (GPL-2.0-only OR ISC)", True),
        ("(MIT OR ISC) AND (AGPL-3.0-only AND MIT)", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("mit", False),
    ],
)
def test_what_an_expression_means(expression, may_be):
    assert allowed(expression) == may_be


class _Package:
    def __init__(self, **said):
        from email.message import Message

        self.metadata = Message()
        for name, value in said.items():
            self.metadata[name.replace("_", "-")] = value


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ({"License_Expression": "AGPL-3.0-only"}, "AGPL-3.0-only"),
        (
            {"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
            "GNU General Public License v3 (GPLv3)",
        ),
        ({"License": "Proprietary"}, "Proprietary"),
        ({"License": "Copyright\n 2001"}, "no licence"),
        ({}, "no licence"),
    ],
)
def test_another_licence_is_refused_by_name(said, licence):
    assert refused([_Package(Name="other", **said)]) == [f"other: {licence}"]
