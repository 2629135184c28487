"""The memory that the kernel keeps for an idle TCP connection on the server's side.

It opens connections to itself, so that both ends are on this machine, and divides what the
kernel's own allocator (`Slab` in `/proc/meminfo`) has grown by by the number of ends. Each end
is registered with an `epoll` object, as those of a server are. Nothing has been sent: what
waits in a socket's buffers is not included.
"""

import resource
import select
import socket
import statistics
import struct
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from effort import Effort
from tables import table

ROUNDS: Final = 5
RESET: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends a reset, and leaves no socket in TIME_WAIT."""
LIMITS: Final = {
    "open files, soft": "",
    "net.core.somaxconn": "/proc/sys/net/core/somaxconn",
    "net.ipv4.ip_local_port_range": "/proc/sys/net/ipv4/ip_local_port_range",
    "net.ipv4.tcp_mem": "/proc/sys/net/ipv4/tcp_mem",
    "net.ipv4.tcp_wmem": "/proc/sys/net/ipv4/tcp_wmem",
}


def slab_kib() -> int:
    """Return the memory that the kernel's allocator has in use, in KiB."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "Slab":
            return int(value.split()[0])
    raise ValueError("there is no Slab in /proc/meminfo")


def opened(stack: ExitStack, connections: int) -> list[socket.socket]:
    """Return both ends of so many connections."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
    epoll = stack.enter_context(select.epoll())
    ends = []
    for _ in range(connections):
        ends.append(stack.enter_context(socket.create_connection(listener.getsockname())))
        ends.append(stack.enter_context(listener.accept()[0]))
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        epoll.register(end, select.EPOLLIN)
    return ends


def rounds_of(connections: int) -> list[float]:
    """Return the KiB of each end, measured again with each round of further connections.

    The earlier ones stay open: what they have freed could be used again otherwise.
    """
    found = []
    with ExitStack() as stack:
        for _ in range(ROUNDS):
            before = slab_kib()
            ends = opened(stack, connections)
            found.append((slab_kib() - before) / len(ends))
    return found


def system_limits() -> dict[str, str]:
    """Return the limits of this machine that matter to servers with many connections."""
    found = {}
    for name, path in LIMITS.items():
        if not path:
            found[name] = str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        elif Path(path).exists():
            found[name] = " ".join(Path(path).read_text(encoding="ascii").split())
    return found


def measure(effort: Effort) -> dict[str, Any]:
    """Return the KiB of one end, and the limits; nothing where there is no Linux."""
    if sys.platform != "linux":
        return {"left_out": "/proc/meminfo is Linux's"}
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = min(effort.connections, (most - 100) // (2 * ROUNDS))
    rounds = rounds_of(connections)
    return {
        "connections": connections * ROUNDS,
        "kib_per_socket": rounds,
        "kib_per_socket_median": statistics.median(rounds),
        "limits": system_limits(),
    }


def tables(found: dict[str, Any]) -> str:
    """Return the Markdown tables of what was measured."""
    if "left_out" in found:
        return f"Left out: the kernel's memory: {found['left_out']}\n"
    each = found["kib_per_socket"]
    memory = [f"{found['kib_per_socket_median']:.2f}", f"{min(each):.2f} to {max(each):.2f}"]
    connections = f"{found['connections']:,}"
    head = ["connections to itself", "KiB per socket, median", "of rounds"]
    title = "Kernel memory of an idle TCP connection, one end"
    return table(title, head, [[connections, *memory]])
