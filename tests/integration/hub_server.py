"""A model hub on loopback, for tests: it speaks as much of the hub's API as 'baton pull' does, and misbehaves as told.

    with Hub() as hub:
        hub.add("owner/repo", "m-Q8_0.gguf", content)
        hub.faults.append(Cut(after=1000))    # each harms one download, in order

Downloads go by way of a redirect to a storage server, as the real hub's do: the same program under another name.
"""

import hashlib
import http.server
import json
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse


class Fault:
    """What happens to one download: it ends after so many bytes, has a status, or lies."""

    def __init__(self, cut_after=None, status=None, headers=None, length=None, flip=False):
        self.cut_after = cut_after
        self.status = status
        self.headers = headers or {}
        self.length = length
        self.flip = flip


def make_certificate(folder, *names):
    """A certificate that is its own root, for these names."""
    folder = pathlib.Path(folder)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=test hub", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
                    "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"], check=True, capture_output=True)
    return folder / "certificate.pem", folder / "key.pem"


class Hub:
    def __init__(self, tls=None):
        self.repositories = {}  # name: {path: bytes}
        self.private = {}  # name: the token that may read it
        self.listed = {}  # (name, path): what the list says in place of the truth
        self.faults = []
        self.requests = []  # (method, path, headers), as they came
        self.page_size = 1000
        self.storage_host = "localhost"
        self.bytes_per_second = None
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self)

            def do_CONNECT(self):
                hub.tunnel(self)

            def log_message(self, *unused):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *unused):  # clients that hang up are part of the tests
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.port = self.server.server_port

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *unused):
        self.server.shutdown()
        self.server.server_close()

    def endpoint(self, host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.port}"

    def add(self, repository, path, content):
        self.repositories.setdefault(repository, {})[path] = content

    def downloads(self):
        """The Range header of each download, in order; None where there was none."""
        return [headers.get("Range") for _, path, headers in self.requests if path.startswith("/storage/")]

    def tokens(self, prefix):
        return [headers.get("Authorization") for _, path, headers in self.requests if path.startswith(prefix)]

    def answer(self, request):
        # A proxy is asked for whole addresses.
        parts = urllib.parse.urlsplit(request.path)
        path = urllib.parse.unquote(parts.path)
        self.requests.append((request.command, path, dict(request.headers)))
        if tree := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/main", path):
            return self.list_files(request, tree[1], urllib.parse.parse_qs(parts.query))
        if resolve := re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", path):
            return self.redirect(request, resolve[1], resolve[2])
        if storage := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
            return self.send_file(request, self.repositories[storage[1]][storage[2]])
        return self.say(request, 404)

    def say(self, request, status, body=b"", headers=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def may_read(self, request, repository):
        if repository not in self.repositories:
            self.say(request, 401, headers={"X-Error-Code": "RepoNotFound"})
            return False
        token = self.private.get(repository)
        if token and request.headers.get("Authorization") != f"Bearer {token}":
            self.say(request, 401, headers={"X-Error-Code": "GatedRepo"})
            return False
        return True

    def list_files(self, request, repository, query):
        if not self.may_read(request, repository):
            return
        entries = [{"type": "directory", "oid": "0", "size": 0, "path": "folder"}]
        for path, content in sorted(self.repositories[repository].items()):
            entry = {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}
            if path.endswith(".gguf"):
                lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 135}
                lfs.update(self.listed.get((repository, path), {}))
                entry.update(lfs=lfs, size=lfs["size"])
            entries.append(entry)
        first = int(query.get("cursor", ["0"])[0])
        headers = {"Content-Type": "application/json"}
        if first + self.page_size < len(entries):
            headers["Link"] = (f'<{self.endpoint()}/api/models/{repository}/tree/main?recursive=true&cursor={first + self.page_size}>; '
                               'rel="next"')
        self.say(request, 200, json.dumps(entries[first:first + self.page_size]).encode(), headers)

    def redirect(self, request, repository, path):
        if not self.may_read(request, repository):
            return
        content = self.repositories[repository].get(path)
        if content is None:
            return self.say(request, 404, headers={"X-Error-Code": "EntryNotFound"})
        self.say(request, 302, headers={
            "Location": f"{self.scheme}://{self.storage_host}:{self.port}/storage/{repository}/{urllib.parse.quote(path)}?signature=x",
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content)),
            "X-Repo-Commit": "0" * 40})

    def send_file(self, request, content):
        fault = self.faults.pop(0) if self.faults else Fault()
        if fault.status:
            return self.say(request, fault.status, headers=fault.headers)
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        begin, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if wanted and request.headers.get("If-Range", etag) == etag:
            begin, status = int(wanted[1]), 206
            if begin >= len(content):
                return self.say(request, 416, headers={"Content-Range": f"bytes */{len(content)}"})
        body = bytearray(content[begin:])
        if fault.flip:
            body[len(body) // 2] ^= 1
        request.send_response(status)
        request.send_header("ETag", etag)
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Length", str(fault.length or len(body)))
        if status == 206:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        body = body[:fault.cut_after] if fault.cut_after is not None else body
        for at in range(0, len(body), 16384):
            request.wfile.write(body[at:at + 16384])
            if self.bytes_per_second:
                time.sleep(16384 / self.bytes_per_second)
        if fault.cut_after is not None or fault.length:
            request.wfile.flush()
            request.close_connection = True

    def tunnel(self, request):
        """As a proxy: whatever the name, the connection goes to the port on this machine."""
        self.requests.append(("CONNECT", request.path, dict(request.headers)))
        with socket.create_connection(("127.0.0.1", int(request.path.rsplit(":", 1)[1]))) as target:
            request.send_response(200)
            request.end_headers()

            def forward(source, sink):
                try:
                    while block := source.recv(65536):
                        sink.sendall(block)
                    sink.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

            back = threading.Thread(target=forward, args=(target, request.connection), daemon=True)
            back.start()
            forward(request.connection, target)
            back.join()
        request.close_connection = True
