"""The verb `preview` in a process of its own, asked as a browser asks, while files are saved."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import html_page
import processes
import pytest

from resnet_spec import cli
from resnet_spec.cli.shared import Exit
from resnet_spec.preview.board import Board
from resnet_spec.preview.watch import Watch

NET = """\
spec_version: 1
name: net
description: a net
extends: base.yaml
classes: {classes}
"""
BASE = """\
spec_version: 1
name: base
description: a base
input: {height: 32, width: 32}
stages:
  - {name: layer1, block: mine, repeat: 2}
head: [{global_avg_pool: pool}, {linear: fc, features: classes}]
"""
BLOCK = "block: mine\ndescription: mine\nlayers:\n  - {conv: conv1, filters: %d, kernel: 3}\n"
CASES = sorted(Path(__file__).parents[1].glob("cases/*/spec.yaml"))
PATIENCE = 60.0


class Preview:
    """A running preview of `net.yaml`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        (folder / "project").mkdir()
        self.net = folder / "project" / "net.yaml"
        self.base = folder / "project" / "base.yaml"
        self.block = folder / "project" / "blocks" / "mine.yaml"
        self.block.parent.mkdir()
        self.net.write_text(NET.format(classes=10))
        self.base.write_text(BASE)
        self.block.write_text(BLOCK % 8)
        command = [*processes.installed(folder / "bin"), "preview", "net.yaml", "--port", "0"]
        self.errors = folder / "errors.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *words],
                cwd=self.net.parent,
                env=processes.environment(PYTHONUNBUFFERED="1"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(
            r"net\.yaml is shown at http://127\.0\.0\.1:(\d+)/ until Ctrl-C\n", line
        )
        assert found is not None, line + self.errors.read_text()
        self.port = int(found[1])

    def ask(self, path: str = "/", host: str | None = None, method: str = "GET") -> tuple[int, str]:
        """Status and body of an answer; `host` is what the browser says it asks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers={"Host": host} if host is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def shows(self, wanted: Callable[[str], object], patience: float = PATIENCE) -> str:
        """The page, as soon as it is as wanted."""
        end = time.monotonic() + patience
        while True:
            status, text = self.ask()
            assert status == 200
            if wanted(text):
                assert html_page.faults(without_script(text)) == []
                return text
            assert time.monotonic() < end, text[-3000:]
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def without_script(text: str):  # type: ignore[no-untyped-def]
    """The tree of a page without the one script that it may have, known by its hash."""
    page, number = re.subn(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert number == 1
    return html_page.read(page)


def classes(text: str) -> int:
    return int(html_page.facts(without_script(text))["classes"].replace(",", ""))


def has_classes(number: int, text: str) -> bool:
    return classes(text) == number


def mistakes(text: str) -> str:
    """What the page says of mistakes; empty where there are none."""
    root = without_script(text)
    boxes = [each for each in root.iter("section") if each.get("id") == "mistakes"]
    return "".join(map(html_page.text_of, boxes))


@pytest.fixture
def preview(tmp_path: Path) -> Iterator[Preview]:
    started = Preview(tmp_path)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()
    assert "Traceback" not in started.errors.read_text()


# --- renewal -------------------------------------------------------------------------------------


def test_every_file_that_the_spec_rests_on_renews_the_page(preview: Preview) -> None:
    assert classes(preview.shows(lambda text: True)) == 10
    preview.net.write_text(NET.format(classes=11))
    preview.shows(lambda text: classes(text) == 11)
    preview.base.write_text(BASE.replace("repeat: 2", "repeat: 3"))
    preview.shows(lambda text: "3 x mine" in text)
    preview.block.write_text(BLOCK % 24)
    preview.shows(lambda text: "24x32x32" in text)
    # A file that was not there: a block of its own takes the place of the package's.
    preview.base.write_text(BASE.replace("block: mine", "block: basic, filters: 16"))
    preview.shows(lambda text: "2 x basic" in text and "16x32x32" in text)
    own = BLOCK.replace("mine", "basic").replace("layers:", "args: {filters: {type: int}}\nlayers:")
    preview.block.with_name("basic.yaml").write_text(own % 40)
    preview.shows(lambda text: "40x32x32" in text)


def test_settings_decide_what_may_be_read(preview: Preview) -> None:
    preview.base.rename(preview.folder / "outer.yaml")
    preview.net.write_text(NET.format(classes=5).replace("base.yaml", "../outer.yaml"))
    preview.shows(lambda text: "RS006" in mistakes(text))
    (preview.folder / "resnet-spec.toml").write_text("")
    preview.shows(lambda text: not mistakes(text) and classes(text) == 5)
    (preview.folder / "resnet-spec.toml").unlink()
    preview.shows(lambda text: "RS006" in mistakes(text))


def test_mistakes_stand_above_the_last_good_picture(preview: Preview) -> None:
    good = preview.shows(lambda text: "8x32x32" in text)
    assert not mistakes(good)
    preview.block.write_text((BLOCK % 8).replace("kernel", "kernal"))
    text = preview.shows(mistakes)
    assert "blocks/mine.yaml:4:31 RS101" in mistakes(text)
    assert f"\n  | {' ' * 30}^~~~~~" in mistakes(text)
    assert "<title>net: mistakes</title>" in text and "8x32x32" in text
    preview.block.write_text(BLOCK % 9)
    text = preview.shows(lambda text: not mistakes(text))
    assert "9x32x32" in text
    assert "net.yaml: 1 error in 1 file\nnet.yaml: no errors\n" in preview.errors.read_text()


def test_a_half_written_and_a_deleted_file(preview: Preview) -> None:
    whole = NET.format(classes=12)
    preview.net.write_text(whole[: len(whole) // 2])
    preview.shows(mistakes)
    preview.net.write_text(whole)
    preview.shows(lambda text: classes(text) == 12 and not mistakes(text))
    for path in (preview.net, preview.base, preview.block):
        kept = path.read_text()
        path.unlink()
        assert "8x32x32" in preview.shows(mistakes)
        path.mkdir()
        preview.shows(mistakes)
        path.rmdir()
        os.mkfifo(path)
        time.sleep(0.3)
        preview.shows(mistakes)
        path.unlink()
        path.write_text(kept)
        preview.shows(lambda text: not mistakes(text))
    shutil.rmtree(preview.net.parent / "blocks")
    preview.shows(mistakes)


def test_two_saves_within_ten_milliseconds(preview: Preview) -> None:
    """The second has the same size, and on a coarse clock the same time."""
    for turn in range(8):
        state = preview.net.stat()
        preview.net.write_text(NET.format(classes=20 + turn))
        os.utime(preview.net, ns=(state.st_atime_ns, state.st_mtime_ns))
        time.sleep(0.002 * (turn % 4))
        preview.net.write_text(NET.format(classes=40 + turn))
        os.utime(preview.net, ns=(state.st_atime_ns, state.st_mtime_ns))
        preview.shows(functools.partial(has_classes, 40 + turn))


def test_a_save_while_the_page_is_made(preview: Preview) -> None:
    """Whatever the moment, the last save is what is shown in the end."""
    for number in range(40):
        preview.net.write_text(NET.format(classes=100 + number))
        time.sleep(0.013 * (number % 7))
    preview.shows(lambda text: classes(text) == 139)


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_every_kind_of_mistake(preview: Preview, every: int) -> None:
    """Each spec of the cases, with what stands beside it; then all is as before."""
    cases = [case for case in CASES if case.is_file()]
    assert len(cases) > 150
    for case in cases[::every]:
        blocks = case.parent / "blocks"
        if blocks.is_dir():
            shutil.copytree(blocks, preview.net.parent / "blocks", dirs_exist_ok=True)
        shutil.copyfile(case, preview.net)
        text = preview.shows(lambda text: True)
        assert not any(c in text for c in "\x00\x1b\u202e")
    shutil.rmtree(preview.net.parent / "blocks")
    preview.block.parent.mkdir()
    preview.block.write_text(BLOCK % 8)
    preview.net.write_text(NET.format(classes=77))
    preview.shows(lambda text: not mistakes(text) and classes(text) == 77)


# --- news ----------------------------------------------------------------------------------------


def test_news_come_at_once(preview: Preview) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", preview.port, timeout=PATIENCE)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.fp.readline() == b"data: 1\n"
    start = time.monotonic()
    preview.net.write_text(NET.format(classes=13))
    assert answer.fp.readline() == b"\n"
    assert answer.fp.readline() == b"data: 2\n"
    assert time.monotonic() - start < 10
    assert classes(preview.ask()[1]) == 13
    connection.close()


def test_board() -> None:
    board = Board()
    assert board.beyond(0, 0.01) == 0
    assert board.put(b"a") and not board.put(b"a")
    assert board.beyond(0, PATIENCE) == 1
    threading.Timer(0.05, board.put, [b"b"]).start()
    assert board.beyond(1, PATIENCE) == 2
    assert board.text == b"b"


def test_watch_knows_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, none = tmp_path / "a", tmp_path / "b"
    path.write_text("1")
    watch = Watch()
    first = watch.look([path, none])
    state = path.stat()
    path.write_text("2")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    second = watch.look([path, none])
    assert first[path] != second[path] and first[none] == second[none]
    path.write_text("1")
    assert watch.look([path, none]) == first
    monkeypatch.setattr("resnet_spec.preview.watch._RECENT", -1.0)  # an old file is read once
    watch.look([path])
    monkeypatch.setattr("resnet_spec.preview.watch.open_regular", lambda path: 1 / 0)
    assert watch.look([path]) == {path: first[path]}


# --- who may ask ---------------------------------------------------------------------------------


def test_it_is_there_for_this_machine_alone(preview: Preview) -> None:
    for host in ("127.0.0.1", "localhost", "LOCALHOST"):
        assert preview.ask(host=f"{host}:{preview.port}")[0] == 200
    others = ("evil.example", f"evil.example:{preview.port}", "localhost", "127.0.0.1:1", "")
    for host in (*others, f"127.0.0.1.evil.example:{preview.port}", f"[::1]:{preview.port}"):
        for path in ("/", "/events", "/x"):
            status, text = preview.ask(path, host)
            assert status == 403 and "net" not in text, host
    # It listens on no other address of this machine.
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = re.findall(rf" (\w+):{preview.port:04X} \w+:0000 0A", table)
    assert listening == ["0100007F"]


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %(host)s\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_odd_requests_get_nothing(request_text: bytes, preview: Preview) -> None:
    host = f"127.0.0.1:{preview.port}".encode()
    with socket.create_connection(("127.0.0.1", preview.port), PATIENCE) as connection:
        connection.sendall(request_text.replace(b"%(host)s", host))
        with contextlib.suppress(OSError):  # it may have hung up already
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert b" 200 " not in answer and b"a net" not in answer
    assert preview.ask()[0] == 200


def test_headers_and_other_paths(preview: Preview) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", preview.port, timeout=PATIENCE)
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert preview.ask("/../../etc/passwd")[0] == 404
    assert preview.ask("/net.yaml")[0] == 404
    text = preview.ask()[1]
    assert "default-src 'none'" in text and "script-src 'sha256-" in text
    connection.close()


# --- beginning and end ---------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_stops(number: int, code: int, preview: Preview) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", preview.port, timeout=PATIENCE)
    connection.request("GET", "/events")  # a page that waits keeps nothing up
    connection.getresponse()
    start = time.monotonic()
    assert preview.stop(number) == code
    assert time.monotonic() - start < 5
    assert preview.errors.read_text().splitlines() == ["net.yaml: no errors"]
    with pytest.raises(ConnectionError):
        preview.ask()
    connection.close()


def test_a_port_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["preview", "resnet18", "--port", str(port)]) == Exit.FAILURE
    told = capsys.readouterr().err
    assert f"cannot use port {port}: address already in use" in told
    assert "choose another with --port" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-"], "preview needs a file"),
        (["resnet18", "--port", "70000"], "must be from 0 to 65535"),
        (["resnet18", "--port", "x"], "invalid int value"),
        (["resnet18", "--backend", "tourch"], "there is no backend 'tourch'"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["preview", *words]) == Exit.FAILURE
    assert message in capsys.readouterr().err


def test_it_begins_with_mistakes_and_a_file_that_is_not_there(preview: Preview) -> None:
    """As when an editor is opened first: another preview, of a spec that nobody has written yet."""
    preview.net.unlink()
    preview.stop()
    command = [*processes.installed(preview.folder / "bin"), "preview", "net.yaml", "--port", "0"]
    with subprocess.Popen(
        command, cwd=preview.net.parent, env=processes.environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        found = re.search(r":(\d+)/", process.stdout.readline())
        assert found is not None
        preview.port, preview.process = int(found[1]), process
        assert "there is no file 'net.yaml'" in mistakes(preview.shows(mistakes))
        preview.net.write_text(NET.format(classes=3))
        preview.shows(lambda text: not mistakes(text) and classes(text) == 3)
        assert preview.stop() == 0
        assert process.stderr.read() == "net.yaml: 1 error\nnet.yaml: no errors\n"
