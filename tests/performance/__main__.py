"""All benchmarks in one run: `python tests/performance [quick] [--out FILE]`."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import budgets
import cost
import kernel_memory
import lateness
import peers
import scale
import sockets
from effort import FULL, QUICK, Effort

PARTS = {
    "cost": cost,
    "peers": peers,
    "scale": scale,
    "lateness": lateness,
    "sockets": sockets,
    "kernel": kernel_memory,
}


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    model = "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line
            for line in info.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def measure(effort: Effort, names: list[str]) -> dict[str, Any]:
    """Run parts, print the tables of each, and return all numbers."""
    found: dict[str, Any] = {"machine": machine(), "effort": effort._asdict()}
    for name in names:
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        found[name] = PARTS[name].measure(effort)
        print(PARTS[name].tables(found[name]), flush=True)
    if names == list(PARTS):
        print(budgets.tables(found), flush=True)
    return found


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python tests/performance", description=__doc__)
    parser.add_argument("effort", nargs="?", choices=("quick", "full"), default="full")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeatable")
    parser.add_argument("--out", type=Path, help="where to write the numbers, as JSON")
    asked = parser.parse_args()
    effort = {"quick": QUICK, "full": FULL}[asked.effort]
    found = measure(effort, asked.part or list(PARTS))
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
