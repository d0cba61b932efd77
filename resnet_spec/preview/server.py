"""The server of one page: on the loopback alone, and for nobody who comes by another name."""

from __future__ import annotations

import http.server
import socket
import socketserver
import threading
from http import HTTPStatus
from typing import Any

from resnet_spec.preview.board import Board

ADDRESS = "127.0.0.1"
EVENTS = "/events"
_MAX_WAITING = 64  # pages that wait for news at one time
_BEAT = 15.0  # seconds between signs of life, by which a page that is gone is noticed
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves a board at `/`, and at `/events` its number whenever that grows."""

    daemon_threads = True  # who waits for news does not keep the process

    def __init__(self, port: int, board: Board) -> None:
        self.board = board
        self.waiting = threading.BoundedSemaphore(_MAX_WAITING)
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    @property
    def hosts(self) -> frozenset[str]:
        """What a browser that came here by itself says it asks.

        A page of elsewhere whose name was made to lead here says that name.
        """
        names = (ADDRESS, "localhost")
        bare = names if self.server_port == 80 else ()
        return frozenset({*bare, *(f"{name}:{self.server_port}" for name in names)})

    def server_bind(self) -> None:
        """As the base does, without asking a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that went away; a fault of ours ends that one answer."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds for a request to come in, or for an answer to be taken

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path == "/":
            self._answer(HTTPStatus.OK, self.server.board.text, "text/html; charset=utf-8")
        elif self.path == EVENTS:
            self._tell()
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is one page, at /\n")

    do_HEAD = do_GET

    def _is_refused(self) -> bool:
        if self.headers.get_all("Host", []) and self._host() in self.server.hosts:
            return False
        self._answer(HTTPStatus.FORBIDDEN, b"this page is for the machine that it runs on\n")
        return True

    def _host(self) -> str | None:
        given = self.headers.get_all("Host", [])
        return given[0].strip().lower() if len(given) == 1 else None

    def _answer(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self._begin(status, kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in _HEADERS.items():
            self.send_header(name, value)

    def _tell(self) -> None:
        """Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html."""
        if not self.server.waiting.acquire(blocking=False):
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many pages wait\n")
            return
        try:
            self._begin(HTTPStatus.OK, "text/event-stream")
            self.end_headers()
            self.close_connection = True
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            told = 0
            while self.command != "HEAD":
                number = self.server.board.beyond(told, _BEAT)
                self.wfile.write(f"data: {number}\n\n".encode() if number > told else b":\n\n")
                told = number
        finally:
            self.server.waiting.release()

    def version_string(self) -> str:
        return "resnet-spec"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who asks is the person at this machine."""
