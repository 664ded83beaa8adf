"""The server: on the loopback interface, behind a secret path, and with nothing but one page."""

import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import Lock
from typing import Any, ClassVar

from vol3dseg.errors import OutputError, Vol3dSegError
from vol3dseg.viewing.opened_case import NiftiBytes, OpenedCase, Scores, Which
from vol3dseg.viewing.shown_cases import Exhibition

LOOPBACK = "127.0.0.1"
NIIVUE = "niivue-0.69.0.umd.js"
# What is served beside cases: the name in addresses, the file in the package, its type.
_ASSETS = {
    "": ("view.html", "text/html; charset=utf-8"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
    "view.js": ("view.js", "text/javascript; charset=utf-8"),
    "niivue.js": (NIIVUE, "text/javascript; charset=utf-8"),
}
_MAPS: dict[str, Which] = {"prediction.nii": "prediction", "reference.nii": "reference"}
_JSON = "application/json"
_HEADERS = {
    # Nothing from anywhere else; NiiVue draws with what is in its own file.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the path is secret
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    kind: str
    length: int
    portions: Iterator[bytes | memoryview]
    status: HTTPStatus = HTTPStatus.OK

    @classmethod
    def of(cls, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> "_Answer":
        return cls(kind, len(content), iter([content]), status)


class ViewServer(ThreadingHTTPServer):
    """Serves a page on some cases to this machine, to whoever knows `url`.

    The case that was asked for last is kept in memory, and no other. OutputError: the port is
    taken, or not free to use.
    """

    daemon_threads = True  # Ctrl-C does not wait for a browser
    allow_reuse_address = sys.platform != "win32"  # where it would share the port with others

    def __init__(
        self, exhibition: Exhibition, reported: Mapping[str, Scores], port: int = 0
    ) -> None:
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OutputError(
                f"cannot be listened on ({getattr(error, 'strerror', None) or error})",
                where=f"port {port}",
                remedy="choose another --port, or 0 for any that is free",
            ) from error
        self.exhibition = exhibition
        self._reported = reported
        self._token = secrets.token_urlsafe(24)
        self._lock = Lock()
        self._opened: tuple[int, OpenedCase] | None = None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/{self._token}/"

    @property
    def hosts(self) -> list[list[str]]:
        """The Host headers of requests that are meant for this server.

        A name that somebody else has pointed here, for a page of theirs to read ours, is none.
        """
        return [[f"{name}:{self.server_port}"] for name in (LOOPBACK, "localhost")]

    def answer(self, path: str) -> _Answer | None:
        """Return what stands at a path; None where there is nothing, or the token is wrong."""
        first, _, rest = path.removeprefix("/").partition("/")
        if not secrets.compare_digest(first.encode(), self._token.encode()):
            return None
        if rest in _ASSETS and path.count("/") > 1:
            name, kind = _ASSETS[rest]
            return _Answer.of(resources.files(__package__).joinpath(name).read_bytes(), kind)
        try:
            return self._of_case(rest.split("/"))
        except Vol3dSegError as error:
            said = error.recorded.encode()
            return _Answer.of(said, "text/plain; charset=utf-8", HTTPStatus.UNPROCESSABLE_ENTITY)

    def _of_case(self, parts: list[str]) -> _Answer | None:
        cases = self.exhibition.cases
        if parts == ["cases.json"]:
            ids = [case.images.id for case in cases]
            return _json({"cases": ids, "notes": self.exhibition.notes})
        numbers = {str(number): number for number in range(len(cases))}
        if len(parts) != 3 or parts[0] != "case" or parts[1] not in numbers:
            return None
        number, what = numbers[parts[1]], parts[2]
        case, shown = self._open(number), cases[number]
        images = {f"image-{n}.nii": name for n, name in enumerate(shown.images.images)}
        if what in images:
            return _nifti(case.image(images[what]))
        if what in _MAPS:
            return _nifti(case.label_map(_MAPS[what]))
        if what == "facts.json":
            return _json(case.facts())
        if what == "scores.json":
            told = self._reported.get(shown.images.id)
            return _json(case.scores() if told is None else told)
        return None

    def _open(self, number: int) -> OpenedCase:
        with self._lock:
            if self._opened is None or self._opened[0] != number:
                case = OpenedCase(self.exhibition.cases[number], self.exhibition)
                self._opened = (number, case)
            return self._opened[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the traceback of a bug; a browser that has gone away is none."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _json(value: object) -> _Answer:
    return _Answer.of(json.dumps(value, allow_nan=False).encode(), _JSON)


def _nifti(found: NiftiBytes | None) -> _Answer | None:
    if found is None:
        return None
    return _Answer("application/octet-stream", found.length, found.portions)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vol3dseg", ""
    timeout: ClassVar[float] = 60.0  # of a connection on which nothing comes [s]

    def do_GET(self) -> None:
        if self.headers.get_all("Host") not in self.server.hosts:
            return self._refuse(HTTPStatus.FORBIDDEN)
        answer = self.server.answer(self.path)
        if answer is None:
            return self._refuse(HTTPStatus.NOT_FOUND)
        return self._send(answer)

    def _not_allowed(self) -> None:
        self.close_connection = True  # what is sent with it is not read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _not_allowed  # noqa: N815

    def _refuse(self, status: HTTPStatus) -> None:
        self._send(_Answer.of(f"{status.phrase}\n".encode(), "text/plain; charset=utf-8", status))

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        headers = {"Content-Type": answer.kind, "Content-Length": str(answer.length), **_HEADERS}
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.writelines(answer.portions)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: names of cases and the token are nobody's business."""
