"""A metadata hook of Hatchling: the README as PyPI shows it.

Relative links and pictures do not work on PyPI. They are made absolute when the address of the
repository is known; until then pictures are left out, and links become plain text.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

REPOSITORY = ""
"""Where the files of the repository are shown, with a slash at the end.

This is the only place that needs the address, and it is not known yet. `[project.urls]` in
pyproject.toml needs it as well then.
"""

PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]+\)\n*")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def for_pypi(text: str, repository: str = REPOSITORY) -> str:
    """Return the README with links that work outside of the repository, or without them."""
    text = PICTURE.sub("", text)
    return LINK.sub(rf"[\1]({repository}\2)" if repository else r"\1", text)


class ReadmeHook(MetadataHookInterface):
    """Sets the readme of the project."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_pypi(text)}
