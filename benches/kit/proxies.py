"""The three proxies, configured to do the same work as an expert in each would write it.

A mode names what a listener speaks and what the origin speaks: `http` and `https` (HTTP/1.1, plain
upstream), `h2c` and `grpc` (HTTP/2 by prior knowledge on both sides), `tcp` (a blind relay), `ws`
and `wss` (WebSocket, plain upstream). Every proxy has one worker, no access log, and connections
to the origin that are kept and reused.
"""

import os

from kit import machine

STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
# Above any number of requests a window can hold, so that nobody pays for reconnecting.
UNLIMITED = 1_000_000_000


class Unsupported(Exception):
    """This proxy has no such mode in this version; the text is the table's cell."""


class Setting:
    """What one proxy is asked to do: mode, its port, the origin's port, the files it may use."""

    def __init__(self, mode, listen, origin, work, tls, same_fields):
        self.mode = mode
        self.listen = listen
        self.origin = origin
        self.work = work
        self.tls = tls
        # Whether peers add the forwarding fields that gwproxy adds by default.
        self.same_fields = same_fields

    def write(self, name, text):
        """Writes a file of this proxy and returns its path."""
        path = os.path.join(self.work, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    @property
    def scheme(self):
        """The scheme the client used, for the forwarding fields."""
        return "https" if self.mode in ("https", "wss") else "http"


class Gwproxy:
    """gwproxy by its one-line commands, one worker."""

    name = "gwproxy"

    def __init__(self, binary):
        self.binary = binary

    def command(self, setting):
        """The command line for a mode."""
        if not self.binary:
            raise Unsupported("not built")
        origin = f"127.0.0.1:{setting.origin}"
        verb, target = {
            "http": ("http", f"http://{origin}"),
            "https": ("http", f"http://{origin}"),
            "h2c": ("http", f"h2c://{origin}"),
            "grpc": ("grpc", origin),
            "tcp": ("tcp", origin),
            "ws": ("ws", f"ws://{origin}"),
            "wss": ("ws", f"ws://{origin}"),
        }[setting.mode]
        command = [
            self.binary, verb,
            "--listen", f"127.0.0.1:{setting.listen}",
            "--to", target,
            "--workers", "1",
            "--access-log", "off",
        ]
        if setting.scheme == "https":
            command += ["--tls-cert", setting.tls.cert, "--tls-key", setting.tls.key]
        return command


class Nginx:
    """nginx: one worker, keep-alive to the origin, default buffers, nothing spilled to disk."""

    name = "nginx"

    def __init__(self):
        self.version = tuple(int(part) for part in machine.nginx_version().split("."))

    def command(self, setting):
        """The command line for a mode; writes the configuration it names."""
        section = self._stream(setting) if setting.mode == "tcp" else self._http(setting)
        load = f"load_module {STREAM_MODULE};" if self._stream_is_dynamic(setting) else ""
        # A master started by root would hand the work to a user who cannot read our files.
        user = "user root root;" if os.geteuid() == 0 else ""
        path = setting.write(
            "nginx.conf",
            f"""{load}
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {setting.work}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; multi_accept on; }}
{section}
""",
        )
        return ["nginx", "-p", setting.work, "-e", "stderr", "-c", path]

    @staticmethod
    def _stream_is_dynamic(setting):
        if setting.mode != "tcp":
            return False
        if os.path.exists(STREAM_MODULE):
            return True
        built_in = machine.first_line([machine.find("nginx"), "-V"], r"(--with-stream)(?: |$)")
        if built_in == "unknown":
            raise Unsupported("no stream module: apt-get install libnginx-mod-stream")
        return False

    @staticmethod
    def _stream(setting):
        return f"""stream {{
    server {{
        listen 127.0.0.1:{setting.listen} backlog=4096;
        proxy_pass 127.0.0.1:{setting.origin};
        proxy_timeout 1h;
    }}
}}"""

    def _http(self, setting):
        temporary = "\n".join(
            f"    {kind}_temp_path {setting.work}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        listen, extra = self._listen(setting)
        return f"""http {{
    access_log off;
{temporary}
    keepalive_timeout 1h;
    keepalive_requests {UNLIMITED};
    upstream origin {{
        server 127.0.0.1:{setting.origin};
        keepalive 256;
        keepalive_requests {UNLIMITED};
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{setting.listen} backlog=4096{listen};
        {extra}
        location / {{
{self._location(setting)}
        }}
    }}
}}"""

    def _listen(self, setting):
        if setting.mode in ("h2c", "grpc"):
            # The parameter became a directive in 1.25.1.
            return ("", "http2 on;") if self.version >= (1, 25, 1) else (" http2", "")
        if setting.scheme == "https":
            return " ssl", (
                f"ssl_certificate {setting.tls.cert}; ssl_certificate_key {setting.tls.key}; "
                "ssl_protocols TLSv1.3;"
            )
        return "", ""

    def _location(self, setting):
        if setting.mode == "grpc":
            return self._fields("grpc", setting) + "grpc_pass grpc://origin;"
        if setting.mode == "h2c":
            if self.version < (1, 29, 4):
                raise Unsupported("no HTTP/2 to upstreams before 1.29.4")
            http = "proxy_http_version 2;"
        else:
            http = "proxy_http_version 1.1;"
        connection = 'proxy_set_header Connection "";'
        if setting.mode in ("ws", "wss"):
            connection = (
                'proxy_set_header Connection "upgrade"; proxy_set_header Upgrade $http_upgrade; '
                "proxy_read_timeout 1h; proxy_send_timeout 1h;"
            )
        return (
            f"{http} {connection} proxy_max_temp_file_size 0; "
            + self._fields("proxy", setting)
            + "proxy_pass http://origin;"
        )

    @staticmethod
    def _fields(module, setting):
        fields = {"Host": "$http_host"}
        if setting.same_fields:
            fields |= {
                "X-Forwarded-For": "$remote_addr",
                "X-Forwarded-Proto": "$scheme",
                "X-Forwarded-Host": "$http_host",
                "Forwarded": '"for=$remote_addr;host=$http_host;proto=$scheme"',
                "Via": '"1.1 nginx"',
            }
        return "".join(f"{module}_set_header {name} {value};\n" for name, value in fields.items())


class Haproxy:
    """HAProxy: one thread, idle connections shared (`http-reuse always`), no log."""

    name = "haproxy"

    def command(self, setting):
        """The command line for a mode; writes the configuration it names."""
        mode = "tcp" if setting.mode == "tcp" else "http"
        bind = server = ""
        if setting.mode in ("h2c", "grpc"):
            bind = server = " proto h2"
        elif setting.scheme == "https":
            bind = f" ssl crt {setting.tls.bundle} ssl-min-ver TLSv1.3"
        http = self._http(setting) if mode == "http" else ""
        path = setting.write(
            "haproxy.cfg",
            f"""global
    nbthread 1
    maxconn 8000
defaults
    mode {mode}
    maxconn 8000
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
listen main
    bind 127.0.0.1:{setting.listen} backlog 4096{bind}
{http}    server origin 127.0.0.1:{setting.origin}{server}
""",
        )
        return ["haproxy", "-db", "-f", path]

    @staticmethod
    def _http(setting):
        lines = ["http-reuse always"]
        if setting.same_fields:
            forwarded = f"for=%[src];host=%[req.hdr(host)];proto={setting.scheme}"
            lines += [
                "option forwardfor",
                f"http-request set-header X-Forwarded-Proto {setting.scheme}",
                "http-request set-header X-Forwarded-Host %[req.hdr(host)]",
                f'http-request set-header Forwarded "{forwarded}"',
                'http-request set-header Via "1.1 haproxy"',
            ]
        return "".join(f"    {line}\n" for line in lines)
