"""Reverse proxies in front of one app: how each is configured and run.

The texts are those of the page `docs/proxies.md`, word for word; nothing but the addresses and
the lines of marks is changed. A mark, a comment with one of the names of `MODES`, governs the
lines below it, up to an empty one or the end of their block: they are used in that mode alone.
What is around them is the frame: it keeps the program in the foreground, and its files in one
folder.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from real.processes import Process, running

APP: Final = "127.0.0.1:8000"
"""The app's address, in the texts."""

FRONT: Final = "127.0.0.1:8080"
"""The proxy's own address, in the texts."""

LIMIT: Final = 2.0
"""Seconds of silence that the texts allow in the mode `limit`."""

TOTAL: Final = 3.0
"""Seconds that they allow for a whole response in the mode `total`."""

USUAL: Final = "usual"
MODES: Final = (USUAL, "limit", "total", "compression", "spared", "watching")
"""With the program's own limits; with a short limit on silence, and on the whole response;
with everything compressed, and with everything but event streams; with an eye on clients."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy.

    Attributes:
        name: Its name in tables and tests.
        program: Its name among the parts.
        text: Its configuration, as it is in the page.
        frame: What stands around that; `TEXT` and `FOLDER` are replaced.
        command: What is run; `FILE`, `FOLDER` and `FRONT` are replaced.
    """

    name: str
    program: str
    text: str
    frame: str = "TEXT\n"
    command: str

    @property
    def modes(self) -> list[str]:
        """The modes that it can be run in."""
        return [mode for mode in MODES if mode == USUAL or f"# {mode}\n" in self.text]

    def configuration(self, mode: str, folder: Path, front: int, app: int) -> str:
        """Return its whole configuration."""
        whole = self.frame.replace("TEXT\n", "".join(_lines(self.text, mode)))
        return (
            whole.replace("FOLDER", str(folder))
            .replace(APP, f"127.0.0.1:{app}")
            .replace(FRONT, f"127.0.0.1:{front}")
        )

    @contextmanager
    def running(self, mode: str, folder: Path, app: int) -> Iterator[Process]:
        """Run it, in front of the port of an app."""
        file = folder / "proxy.conf"

        def command(port: int) -> list[str]:
            file.write_text(self.configuration(mode, folder, port, app), encoding="utf-8")
            words = {"FILE": str(file), "FOLDER": str(folder), "FRONT": f"127.0.0.1:{port}"}
            line = [words.get(word, word) for word in self.command.split()]
            return [found(line[0]), *line[1:]]

        own = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
        with running(f"{self.name} ({mode})", command, folder, own) as process:
            yield process


def found(program: str) -> str:
    """Return a program's path; some are where only root looks for them."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return shutil.which(program, path=path) or program


def _lines(text: str, mode: str) -> Iterator[str]:
    """Leave the marks out, and the lines that other modes' marks govern."""
    marks = {f"# {name}": name for name in MODES}
    governed, depth = "", 0
    for line in text.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip())
        if found := marks.get(line.strip()):
            governed, depth = found, indent
            continue
        if not line.strip() or indent < depth:
            governed = ""
        if governed in ("", mode):
            yield line


NGINX: Final = Proxy(
    name="nginx",
    program="program:nginx",
    text="""\
server {
    listen 127.0.0.1:8080;
    location / {
        proxy_pass http://127.0.0.1:8000;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        # limit
        proxy_read_timeout 2s;
        # compression
        gzip on;
        gzip_proxied any;
        gzip_types text/event-stream;
    }
}
""",
    frame="""\
daemon off;
master_process off;
pid FOLDER/nginx.pid;
error_log stderr;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
TEXT
}
""",
    command="nginx -e stderr -p FOLDER -c FILE",
)

NGINX_10: Final = replace(
    NGINX,
    name="nginx, HTTP/1.0 to the app",
    text="".join(
        line
        for line in NGINX.text.splitlines(keepends=True)
        if not line.strip().startswith(("proxy_http_version", "proxy_set_header"))
    ),
)
"""What nginx speaks unless it is configured otherwise."""

HAPROXY: Final = Proxy(
    name="HAProxy",
    program="program:haproxy",
    text="""\
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    # limit
    timeout client 2s
    timeout server 2s
    # watching
    option abortonclose

frontend web
    bind 127.0.0.1:8080
    default_backend app

backend app
    server app 127.0.0.1:8000
    # compression
    compression algo gzip
    compression type text/event-stream
""",
    command="haproxy -db -f FILE",
)

APACHE: Final = Proxy(
    name="Apache httpd",
    program="program:apache2",
    text="""\
<VirtualHost 127.0.0.1:8080>
    ProxyPass / http://127.0.0.1:8000/
    # limit
    ProxyTimeout 2
    # compression
    SetOutputFilter DEFLATE
</VirtualHost>
""",
    frame="""\
ServerName localhost
ServerRoot FOLDER
DefaultRuntimeDir FOLDER
PidFile FOLDER/httpd.pid
ErrorLog FOLDER/error.log
Listen 127.0.0.1:8080
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so
LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so
User www-data
Group www-data
StartServers 1
ServerLimit 2
ThreadsPerChild 32
MaxRequestWorkers 64
MinSpareThreads 1
MaxSpareThreads 64
TEXT
""",
    command="apache2 -D FOREGROUND -f FILE",
)

CADDY: Final = Proxy(
    name="Caddy",
    program="program:caddy",
    text="""\
http://127.0.0.1:8080 {
    reverse_proxy 127.0.0.1:8000 {
        # limit
        transport http {
            read_timeout 2s
        }
    }
    # compression
    encode gzip

    # spared
    encode {
        gzip
        match header Content-Type text/plain*
    }
}
""",
    frame="""\
{
    admin off
    auto_https off
}
TEXT
""",
    command="caddy run --adapter caddyfile --config FILE",
)

VARNISH: Final = Proxy(
    name="Varnish",
    program="program:varnish",
    text="""\
vcl 4.1;

backend app {
    .host = "127.0.0.1:8000";
    # limit
    .first_byte_timeout = 2s;
    .between_bytes_timeout = 2s;
}

sub vcl_recv {
    # total
    set sess.send_timeout = 3s;

    return (pass);
}

sub vcl_backend_response {
    # compression
    set beresp.do_gzip = true;

    # spared
    if (beresp.http.Content-Type !~ "^text/event-stream") {
        set beresp.do_gzip = true;
    }
}
""",
    command="varnishd -F -j none -n FOLDER -a FRONT -f FILE",
)

PROXIES: Final = {
    proxy.name: proxy for proxy in (NGINX, NGINX_10, HAPROXY, APACHE, CADDY, VARNISH)
}


def of_mode(mode: str) -> list[str]:
    """Return the names of the proxies that can be run in a mode."""
    return [name for name, proxy in PROXIES.items() if mode in proxy.modes]
