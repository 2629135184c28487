"""What the running process has used: CPU time and memory."""

import gc
import time
from pathlib import Path

FIELDS = {
    "Rss": "rss_kib",
    "Pss": "pss_kib",
    "Private_Clean": "private_kib",
    "Private_Dirty": "private_kib",
}


def cpu() -> dict[str, float]:
    """Return the CPU seconds used so far, the kernel's on our behalf included.

    Apart from `memory`, whose garbage collection costs CPU time itself.
    """
    return {"cpu_s": time.process_time()}


def memory() -> dict[str, float]:
    """Return the memory in use after a full garbage collection, and that one's CPU time.

    `private_kib` is what ends with this process (USS); shared libraries are not in it.
    """
    gc.collect()
    began = time.process_time()
    gc.collect()  # finds no garbage: the time that it takes for what is in use
    found = dict.fromkeys(FIELDS.values(), 0.0)
    found["gc_ms"] = (time.process_time() - began) * 1e3
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, value = line.partition(":")
        if name in FIELDS:
            found[FIELDS[name]] += int(value.split()[0])
    return found
