"""The files that a page of the documentation has its reader save."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FILE: Final = re.compile(
    r"(Save this as|Add this to the end of) `(\w+\.py)`[^`]*(?:`[^`\n]+`[^`]*)*?"
    r"^```python\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def saved_files(text: str) -> dict[str, str]:
    """Return the files of a page, by name, as they are at its end."""
    files: dict[str, str] = {}
    for how, name, code in _FILE.findall(text):
        files[name] = code if how.startswith("Save") else f"{files[name]}\n\n{code}"
    return files


def save(files: Mapping[str, str], folder: Path) -> None:
    """Save files in a folder."""
    for name, code in files.items():
        (folder / name).write_text(code, encoding="utf-8")
