"""Questions to a running program over a unix socket: one JSON line in, JSON lines out.

The answer ends when the program closes the connection. While an answer has nothing new to say, an
empty line goes out every `PULSE_S`: the asking side can tell a quiet program from a stopped one,
and the answering side notices who has left. Access is the file's: mode 0660.
"""

import asyncio
import errno
import os
import select
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from events.errors import (
    EX_CANTCREAT,
    EX_USAGE,
    ConfigError,
    NplusError,
    StoreError,
    UnavailableError,
    UsageError,
)

Handler = Callable[[dict[str, Any]], AsyncIterator[object]]

SOCKET_MODE = 0o660
PATH_BYTES_MAX = 107  # sun_path of unix(7), without its closing zero
REQUEST_BYTES_MAX = 128 * 1024
CLIENTS_MAX = 32
REQUEST_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 60.0  # a reader that takes nothing for this long has left
PULSE_S = 2.0
SILENCE_MAX_S = 10.0

_CHUNK_BYTES = 64 * 1024
_ANSWERED: dict[object, type[NplusError]] = {EX_USAGE: UsageError, EX_CANTCREAT: StoreError}


@asynccontextmanager
async def serve(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Answer requests on `path` while the context is open.

    `handler` is called with each request and yields the lines of its answer; an `NplusError` that
    it raises is sent as the last line, and whatever else it raises is logged and sent as one. A
    file left by a dead program is replaced. Raises `ConfigError` when the socket cannot be made,
    `UnavailableError` when another program answers.
    """
    listener, inode = _listen(path)
    try:
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(_accept(listener, handler, group))
            try:
                yield
            finally:
                accepting.cancel()
    finally:
        listener.close()
        _remove(path, inode)


def request(path: Path, message: dict[str, Any]) -> Iterator[Any]:
    """Ask the program at `path`; yield each line of its answer, decoded. Blocks.

    Raises `UnavailableError` when nobody answers, or falls silent; whatever error the program
    answered with, otherwise.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SILENCE_MAX_S)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(msgspec.json.encode(message) + b"\n")
            yield from _lines(connection, path)
        except OSError as error:
            raise _unavailable(path, error) from error


def request_one(path: Path, message: dict[str, Any]) -> Any:
    """Ask the program at `path` for what is answered in one line. Raises as `request` does."""
    for answer in request(path, message):
        return answer
    raise UnavailableError(
        f"the program at {path} closed without an answer",
        hint="it is stopping, or answers too many others; ask again",
    )


def _lines(connection: socket.socket, path: Path) -> Iterator[Any]:
    pending = bytearray()
    while data := connection.recv(_CHUNK_BYTES):
        pending += data
        *lines, rest = pending.split(b"\n")
        pending = bytearray(rest)
        for line in lines:
            if line:
                yield _decoded(bytes(line), path)
    if pending:
        raise UnavailableError(
            f"the answer from {path} broke off", hint="the program stopped; ask again"
        )


def _decoded(line: bytes, path: Path) -> Any:
    try:
        answer = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise UnavailableError(
            f"{path} answers, but not in JSON lines: {error}",
            hint="check that the socket belongs to this program",
        ) from error
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        told = answer["error"]
        kind = _ANSWERED.get(told.get("exit_code"), UnavailableError)
        raise kind(str(told.get("message", "")), hint=str(told.get("hint", "")))
    return answer


def _unavailable(path: Path, error: OSError) -> UnavailableError:
    if isinstance(error, TimeoutError):
        return UnavailableError(
            f"the program at {path} does not answer", hint="it hangs or is stopped; restart it"
        )
    if error.errno in {errno.ENOENT, errno.ECONNREFUSED}:
        return UnavailableError(f"nothing is running at {path}", hint="start it, then ask again")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return UnavailableError(
            f"no access to {path}", hint="ask as the user or a member of the group that owns it"
        )
    return UnavailableError(
        f"cannot talk to {path}: {error.strerror or error}", hint="see the program's log"
    )


def _listen(path: Path) -> tuple[socket.socket, int]:
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise ConfigError(
            f"socket path {path} is longer than {PATH_BYTES_MAX} bytes",
            hint="choose a shorter path, such as one under /run",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        os.fchmod(listener.fileno(), SOCKET_MODE)  # before bind: never open wider, even briefly
        listener.bind(os.fspath(path))
        path.chmod(SOCKET_MODE)  # what the umask took away
        listener.listen(CLIENTS_MAX)
        listener.setblocking(False)
        inode = path.stat().st_ino
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {path}: {error.strerror or error}",
            hint="choose a folder that this user may write to",
        ) from error
    except NplusError:
        listener.close()
        raise
    return listener, inode


def _remove(path: Path, inode: int) -> None:
    with suppress(OSError):
        if path.stat().st_ino == inode:  # not a successor's
            path.unlink()


def _clear(path: Path) -> None:
    """Remove the socket of a program that is gone; refuse to touch anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(
            f"{path} exists and is not a socket", hint="name another path, or move it"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.settimeout(1.0)
        try:
            knocking.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except (BlockingIOError, TimeoutError) as error:
            raise UnavailableError(
                f"{path} is held by a program that does not answer", hint="stop that program"
            ) from error
        except OSError as error:  # no right to it: whether anybody lives there cannot be told
            raise ConfigError(
                f"{path} is somebody else's: {error.strerror or error}",
                hint="remove it, or configure another socket",
            ) from error
    raise UnavailableError(
        f"another program already answers on {path}", hint="stop it, or configure another socket"
    )


async def _accept(listener: socket.socket, handler: Handler, group: asyncio.TaskGroup) -> None:
    loop = asyncio.get_running_loop()
    clients: set[asyncio.Task[None]] = set()
    try:
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # out of descriptors, or a client that left while it was let in
                await asyncio.sleep(0.1)
                continue
            if len(clients) >= CLIENTS_MAX:
                client.close()
                continue
            task = group.create_task(_serve_client(client, handler))
            clients.add(task)
            task.add_done_callback(clients.discard)
    finally:
        for task in tuple(clients):
            task.cancel()


async def _serve_client(client: socket.socket, handler: Handler) -> None:
    with client:
        client.setblocking(False)
        answer = _Answer(client)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                message = await _request(client)
        except TimeoutError:
            return
        except OSError:
            return
        except UsageError as error:
            await answer.give_up(error)
            return
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(answer.give(handler, message))
            beside = (
                group.create_task(answer.pulse()),
                group.create_task(_cancel_when_gone(client, answering)),
            )
            answering.add_done_callback(lambda _: [task.cancel() for task in beside])


class _Answer:
    """One client's answer; whole lines only, whoever sends them."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._sending = asyncio.Lock()

    async def give(self, handler: Handler, message: dict[str, Any]) -> None:
        lines: AsyncIterator[object] | None = None
        try:
            lines = handler(message)
            async for line in lines:
                await self._send(msgspec.json.encode(line))
        except NplusError as error:
            await self.give_up(error)
        except OSError:
            return  # the client has left, or takes nothing
        # Whoever asks must not end the program: its lines and its gateways are worth more.
        except Exception as error:  # noqa: BLE001 - the reason stands above
            structlog.get_logger().error("answer failed", exc_info=error)
            text = f"the answer broke off: {type(error).__name__}: {error}"
            await self.give_up(
                UnavailableError(text, hint="a defect of the program; its log has the details")
            )
        finally:
            close = getattr(lines, "aclose", None)
            if close is not None:
                await close()

    async def give_up(self, error: NplusError) -> None:
        told = {"message": str(error), "hint": error.hint, "exit_code": error.exit_code}
        with suppress(OSError):
            await self._send(msgspec.json.encode({"error": told}))

    async def pulse(self) -> None:
        with suppress(OSError):
            while True:
                await asyncio.sleep(PULSE_S)
                await self._send(b"")

    async def _send(self, line: bytes) -> None:
        async with self._sending, asyncio.timeout(SEND_TIMEOUT_S):
            await asyncio.get_running_loop().sock_sendall(self._client, line + b"\n")


async def _cancel_when_gone(client: socket.socket, answering: asyncio.Task[None]) -> None:
    """Stop an answer that nobody reads. One that only closed its sending half still listens."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        poll = select.poll()
        poll.register(client, 0)
        while not poll.poll(0):
            if not await loop.sock_recv(client, _CHUNK_BYTES):
                await asyncio.sleep(PULSE_S)
    answering.cancel()


async def _request(client: socket.socket) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while b"\n" not in data:
        chunk = await loop.sock_recv(client, _CHUNK_BYTES)
        data += chunk
        if len(data) > REQUEST_BYTES_MAX:
            raise UsageError(f"a request is at most {REQUEST_BYTES_MAX} bytes")
        if not chunk:
            break
    try:
        message = msgspec.json.decode(bytes(data.partition(b"\n")[0]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"a request is one line of JSON: {error}") from error
    if not isinstance(message, dict):
        raise UsageError("a request is a JSON object on one line")
    return message
