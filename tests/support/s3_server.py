"""An object store over HTTP as S3 has it, with its conditions and pages, and with faults and latency to order."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

BUCKET = "bucket"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "verysecret", "AWS_REGION": "us-east-1"}

Fault = Callable[[str, str], str | None]


def fine(method: str, key: str) -> str | None:
    """No fault."""
    return None


class S3Server(ThreadingHTTPServer):
    """Objects of one bucket in memory.

    `fault(method, key)` says what happens to a request: `error` (a reply of 500), `reset` (the connection breaks before
    anything is done), `lost` (the work is done and the connection breaks before the reply), or None.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, tuple[bytes, str, float]] = {}  # bytes, etag, time of writing
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault = fine
        self.latency = 0.0  # seconds
        self.lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead a client to this server."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}"}

    def put(self, key: str, data: bytes) -> str:
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        self.objects[key] = data, etag, time.time()
        return etag

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve a bucket in a thread."""
    server = S3Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        what = key or query.get("prefix", "")
        with self.server.lock:
            self.server.requests.append((self.command, what))
            fault = self.server.fault(self.command, what)
        if self.server.latency:
            time.sleep(self.server.latency)
        if fault == "reset":
            self._break()
        elif fault == "error":
            self._reply(500, b"<Error><Code>InternalError</Code></Error>")
        elif bucket != BUCKET:
            self._reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        else:
            with self.server.lock:
                reply = getattr(self, f"_{self.command.lower()}")(key, query, body)
            if fault == "lost":
                self._break()
            else:
                self._reply(*reply)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, length: int = -1) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
            self.end_headers()
            self.wfile.write(body)

    def _break(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()

    def _get(self, key: str, query: dict[str, str], body: bytes) -> tuple[Any, ...]:
        if not key:
            return 200, self._listing(query)
        if key not in self.server.objects:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        data, etag, written = self.server.objects[key]
        headers = {"ETag": etag, "Last-Modified": formatdate(written, usegmt=True)}
        if (wanted := self.headers.get("Range")) is None:
            return 200, data, headers
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(data)) + 1, len(data))
        if begin >= len(data):
            return 416, b"<Error><Code>InvalidRange</Code></Error>"
        return 206, data[begin:end], {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}

    def _head(self, key: str, query: dict[str, str], body: bytes) -> tuple[Any, ...]:
        status, data, *headers = self._get(key, query, body)
        return (status, b"", *headers, len(data)) if status == 200 else (status,)

    def _put(self, key: str, query: dict[str, str], body: bytes) -> tuple[Any, ...]:
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][1][int(query["partNumber"])] = body
            return 200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        there = self.server.objects.get(key)
        if self.headers.get("If-None-Match") == "*" and there is not None:
            return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
        if (wanted := self.headers.get("If-Match")) is not None:
            if there is None:
                return 404, b"<Error><Code>NoSuchKey</Code></Error>"
            if there[1] != wanted:
                return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
        if (source := self.headers.get("x-amz-copy-source")) is not None:
            source = unquote(source).lstrip("/").partition("/")[2]
            if source not in self.server.objects:
                return 404, b"<Error><Code>NoSuchKey</Code></Error>"
            etag = self.server.put(key, self.server.objects[source][0])
            return 200, f"<CopyObjectResult><ETag>{escape(etag)}</ETag></CopyObjectResult>".encode()
        return 200, b"", {"ETag": self.server.put(key, body)}

    def _post(self, key: str, query: dict[str, str], body: bytes) -> tuple[Any, ...]:
        if "delete" in query:
            names = [each.text or "" for each in ElementTree.fromstring(body).iter() if each.tag.endswith("Key")]
            for name in names:
                self.server.objects.pop(name, None)
            gone = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
            return 200, f"<DeleteResult>{gone}</DeleteResult>".encode()
        if "uploads" in query:
            number = str(len(self.server.uploads))
            self.server.uploads[number] = key, {}
            about = f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key><UploadId>{number}</UploadId>"
            return 200, f"<InitiateMultipartUploadResult>{about}</InitiateMultipartUploadResult>".encode()
        _, parts = self.server.uploads[query["uploadId"]]
        etag = self.server.put(key, b"".join(data for _, data in sorted(parts.items())))
        about = f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key><ETag>{escape(etag)}</ETag>"
        return 200, f"<CompleteMultipartUploadResult>{about}</CompleteMultipartUploadResult>".encode()

    def _delete(self, key: str, query: dict[str, str], body: bytes) -> tuple[Any, ...]:
        self.server.objects.pop(key, None)
        return (204,)

    def _listing(self, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = min(int(query.get("max-keys", 1000)), 1000)
        entries: dict[str, str] = {}
        for key, (data, etag, written) in sorted(self.server.objects.items()):
            if not key.startswith(prefix) or key <= after:
                continue
            head, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            if found:
                common = prefix + head + delimiter
                if common > after:
                    entries[common] = f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>"
                continue
            when = datetime.fromtimestamp(written, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            entries[key] = (
                f"<Contents><Key>{escape(key)}</Key><LastModified>{when}</LastModified>"
                f"<ETag>{escape(etag)}</ETag><Size>{len(data)}</Size></Contents>"
            )
        names = sorted(entries)[:most]
        more = len(entries) > most
        token = f"<NextContinuationToken>{escape(names[-1])}</NextContinuationToken>" if more else ""
        shown = "".join(entries[name] for name in names)
        told = f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(names)}</KeyCount>{token}{shown}"
        return f"<ListBucketResult>{told}</ListBucketResult>".encode()
