"""A hub on this machine, with the faults that hubs and networks have."""

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Serves files from memory.

    Like the real one it redirects a file to where the bytes are, and states its digest before that.

    Attributes:
        files: Content by path.
        requests: Paths and ranges that were asked for, without the redirections.
        drops: After how many bytes each of the next connections is cut.
        ignores_ranges: Whether a range is answered with the whole file.
        statuses: Statuses that the next requests are answered with, in place of a file.
        states_digest: Whether the digest is stated.
        location: Where to redirect to; by default to the bytes.
        headers: What is said of the bytes in place of what is right; None leaves a header out.
    """

    def __init__(self):
        self.files = {}
        self.requests = []
        self.drops = []
        self.ignores_ranges = False
        self.statuses = []
        self.states_digest = True
        self.location = None
        self.headers = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request):
        if not request.path.startswith("/bytes"):
            content = self.files.get(request.path)
            if content is None:
                request.send_error(404)
                return
            request.send_response(302)
            request.send_header("Location", self.location or f"/bytes{request.path}")
            if self.states_digest:
                digest = hashlib.sha256(content).hexdigest()
                request.send_header("X-Linked-Etag", f'"{digest}"')
                request.send_header("X-Linked-Size", str(len(content)))
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        content = self.files[request.path.removeprefix("/bytes")]
        start, headers = 0, {}
        if wanted and not self.ignores_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                request.send_error(416)
                return
            request.send_response(206)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        else:
            request.send_response(200)
        headers["Content-Length"] = str(len(content) - start)
        for name, value in (headers | self.headers).items():
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        end = start + self.drops.pop(0) if self.drops else len(content)
        with contextlib.suppress(ConnectionError):
            request.wfile.write(content[start:end])
        request.close_connection = True


@contextlib.contextmanager
def running_hub():
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()
