import asyncio
import contextlib
import json
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from events.errors import ConfigError, UnavailableError, UsageError
from sync import local_socket
from sync.local_socket import request, request_one, serve


async def answers(message: dict[str, Any]) -> AsyncIterator[object]:
    match message.get("request"):
        case "count":
            for number in range(message["to"]):
                yield {"number": number}
        case "flood":
            while True:
                yield "x" * 65536
        case "quiet":
            await asyncio.sleep(message["for_s"])
            yield "at last"
        case "silent":
            await asyncio.Event().wait()
        case "broken":
            yield "half"
            raise KeyError("defect")
        case other:
            raise UsageError(f"nobody knows {other!r}", hint="ask for count")


@contextlib.contextmanager
def serving(path: Path) -> Iterator[None]:
    """Run the server on a loop of its own in a thread, as if it were another process."""
    started = threading.Event()
    stop: list[Any] = []

    async def run() -> None:
        done = asyncio.Event()
        stop.extend((asyncio.get_running_loop(), done))
        async with serve(path, answers):
            started.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        stop[0].call_soon_threadsafe(stop[1].set)
        thread.join(10)
        assert not thread.is_alive()


def test_one_line_in_all_lines_out(tmp_path: Path) -> None:
    with serving(tmp_path / "s"):
        answer = list(request(tmp_path / "s", {"request": "count", "to": 3000}))
    assert answer == [{"number": number} for number in range(3000)]


def test_the_socket_is_for_owner_and_group_only_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_nobody_home_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as told:
        list(request(tmp_path / "s", {}))
    assert "nothing is running" in str(told.value)
    assert told.value.exit_code == 69
    assert told.value.hint


def test_a_dead_programs_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(UnavailableError):
        list(request(path, {}))
    with serving(path):
        assert list(request(path, {"request": "count", "to": 1})) == [{"number": 0}]


def test_a_living_programs_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def second() -> None:
        async with serve(path, answers):
            pytest.fail("two programs on one socket")

    with serving(path):
        with pytest.raises(UnavailableError, match="already answers"):
            asyncio.run(second())
        assert list(request(path, {"request": "count", "to": 1})) == [{"number": 0}]


def test_a_socket_of_somebody_else_is_a_fault_that_a_program_can_live_with(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def ours() -> None:
        async with serve(path, answers):
            pytest.fail("two owners of one path")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ConfigError, match="somebody else"):
            asyncio.run(ours())
    assert path.exists()


def test_an_answer_that_never_came_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path):
        assert request_one(path, {"request": "count", "to": 1}) == {"number": 0}
        with pytest.raises(UnavailableError, match="without an answer"):
            request_one(path, {"request": "count", "to": 0})


@pytest.mark.parametrize("length", [None, 200])
def test_a_path_that_cannot_be_a_socket_is_a_named_fault(
    tmp_path: Path, length: int | None
) -> None:
    path = tmp_path / ("file" if length is None else "x" * length)
    if length is None:
        path.write_text("precious")

    async def attempt() -> None:
        async with serve(path, answers):
            pytest.fail("listening on a file")

    with pytest.raises(ConfigError):
        asyncio.run(attempt())
    if length is None:
        assert path.read_text() == "precious"


def raw(path: Path, data: bytes, *, half_close: bool = False) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
        return received


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b"3\n",
        b"\xff\xfe\n",
        b'{"request": "other"}\n',
        b"[" * 60_000 + b"\n",
        b'{"a": "' + b"x" * local_socket.REQUEST_BYTES_MAX * 2 + b'"}\n',
    ],
)
def test_a_bad_request_gets_an_error_line_and_harms_nobody(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s"
    with serving(path):
        told = raw(path, data)
        if told:  # a flooder may be cut off before it reads why
            assert json.loads(told)["error"]["exit_code"] == 64
        assert list(request(path, {"request": "count", "to": 1})) == [{"number": 0}]


def test_an_error_of_the_program_reaches_the_one_who_asked(tmp_path: Path) -> None:
    with serving(tmp_path / "s"), pytest.raises(UsageError, match="nobody knows") as told:
        list(request(tmp_path / "s", {"request": "nonsense"}))
    assert told.value.hint == "ask for count"


def test_a_client_that_closes_its_sending_half_still_gets_its_answer(tmp_path: Path) -> None:
    with serving(tmp_path / "s"):
        data = raw(tmp_path / "s", b'{"request": "count", "to": 2}', half_close=True)
    assert data == b'{"number":0}\n{"number":1}\n'


def test_clients_that_read_nothing_block_nobody(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path):
        idle = [socket.socket(socket.AF_UNIX) for _ in range(local_socket.CLIENTS_MAX - 1)]
        for client in idle:
            client.connect(str(path))
            client.sendall(b'{"request": "flood"}\n')
        assert list(request(path, {"request": "count", "to": 1})) == [{"number": 0}]
        for client in idle:
            client.close()
        assert list(request(path, {"request": "count", "to": 1})) == [{"number": 0}]


def test_clients_that_left_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_socket, "PULSE_S", 0.02)
    path = tmp_path / "s"
    with serving(path):
        for _ in range(3):
            crowd = [socket.socket(socket.AF_UNIX) for _ in range(local_socket.CLIENTS_MAX)]
            for client in crowd:
                client.connect(str(path))
                client.sendall(b'{"request": "silent"}\n')
            for client in crowd:
                client.close()
            for _ in range(500):
                with contextlib.suppress(UnavailableError):
                    if list(request(path, {"request": "count", "to": 1})):
                        break
                time.sleep(0.02)
            else:
                pytest.fail("the places of clients that left were never given back")
    assert not path.exists()


def test_a_quiet_program_is_not_a_stopped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_socket, "PULSE_S", 0.05)
    monkeypatch.setattr(local_socket, "SILENCE_MAX_S", 0.5)
    with serving(tmp_path / "s"):
        assert list(request(tmp_path / "s", {"request": "quiet", "for_s": 1.5})) == ["at last"]


def test_a_stopped_program_is_not_a_quiet_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_socket, "SILENCE_MAX_S", 0.3)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(path))
        stopped.listen(1)
        with pytest.raises(UnavailableError, match="does not answer"):
            list(request(path, {"request": "count", "to": 1}))


def test_an_answer_that_breaks_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(str(path))
        dying.listen(1)

        def die() -> None:
            client, _ = dying.accept()
            with client:
                client.recv(1000)
                client.sendall(b'{"number": 0}\n{"numb')

        thread = threading.Thread(target=die)
        thread.start()
        with pytest.raises(UnavailableError, match="broke off"):
            list(request(path, {}))
        thread.join()


def test_an_answer_that_breaks_is_told_and_the_program_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(path):
        said = request(path, {"request": "broken"})
        assert next(said) == "half"
        with pytest.raises(UnavailableError, match="KeyError: 'defect'"):
            next(said)
        assert request_one(path, {"request": "count", "to": 1}) == {"number": 0}
