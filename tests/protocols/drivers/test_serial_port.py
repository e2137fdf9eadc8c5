import asyncio
import contextlib
import os
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.errors import LinkLost
from protocols.drivers.serial_port import WRITE_BUFFER_MAX, SerialStream, open_serial
from protocols.ports import Rs485, SerialPort


class Pty:
    """The far end of a pseudo-terminal, with a stable name for the near end."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.plug()

    def plug(self) -> None:
        self.far, self.near = os.openpty()
        tty.setraw(self.near)
        os.set_blocking(self.far, False)
        self.link.symlink_to(os.ttyname(self.near))

    def unplug(self) -> None:
        os.close(self.far)
        os.close(self.near)
        self.link.unlink()

    def received(self) -> bytes:
        data = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                data += os.read(self.far, 4096)
        return data


@pytest.fixture
def pty(tmp_path: Path) -> Iterator[Pty]:
    line = Pty(tmp_path / "port")
    yield line
    with contextlib.suppress(OSError):
        line.unplug()


async def _read(stream: SerialStream, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(5):
        while len(data) < count:
            data += await stream.read()
    return data


@pytest.mark.parametrize("parity", ["none", "even", "odd"])
def test_a_symlinked_pty_carries_every_byte_both_ways_whatever_framing_is_asked(
    pty: Pty, parity: str
) -> None:
    async def main() -> None:
        port = SerialPort(path=str(pty.link), baud=19200, data_bits=7, parity=parity)  # type: ignore[arg-type]  # parametrised text
        stream = await open_serial(port)
        everything = bytes(range(256))
        os.write(pty.far, everything)
        assert await _read(stream, 256) == everything
        await stream.write(everything)
        await asyncio.sleep(0.05)
        assert pty.received() == everything
        assert stream.asked == f"7{parity[0].upper()}1"
        assert len(stream.notes) == 1
        assert termios.tcgetattr(pty.far)[4] == termios.B19200
        stream.close()

    asyncio.run(main())


def test_a_real_framing_on_a_pty_needs_no_note(pty: Pty) -> None:
    async def main() -> None:
        stream = await open_serial(SerialPort(path=str(pty.link)))
        assert stream.notes == ()
        stream.close()

    asyncio.run(main())


def test_an_unplugged_port_is_lost_at_once_and_opens_again_by_path(pty: Pty) -> None:
    async def main() -> None:
        port = SerialPort(path=str(pty.link))
        stream = await open_serial(port)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_lost(stream))
            await asyncio.sleep(0.02)
            pty.unplug()
            async with asyncio.timeout(1):
                assert "gone" in await reading
        with pytest.raises(LinkLost):
            await stream.write(b"x")
        stream.close()
        with pytest.raises(LinkLost, match="not there"):
            await open_serial(port)
        pty.plug()
        again = await open_serial(port)
        os.write(pty.far, b"back")
        assert await _read(again, 4) == b"back"
        again.close()

    async def _lost(stream: SerialStream) -> str:
        try:
            await stream.read()
        except LinkLost as error:
            return str(error)
        return "still there"

    asyncio.run(main())


def test_a_cancelled_read_loses_nothing(pty: Pty) -> None:
    async def main() -> None:
        stream = await open_serial(SerialPort(path=str(pty.link)))
        got = b""
        for number in range(200):
            os.write(pty.far, bytes([number]))
            try:
                async with asyncio.timeout(0 if number % 2 else 0.00005):
                    got += await stream.read()
            except TimeoutError:
                pass
        got += await _read(stream, 200 - len(got))
        assert got == bytes(range(200))
        stream.close()

    asyncio.run(main())


def test_a_second_opener_is_refused_and_told_who_has_it(pty: Pty) -> None:
    program = (
        "import serial, sys, time; s = serial.Serial(sys.argv[1], exclusive=True);"
        "print('open', flush=True); time.sleep(30)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(pty.link)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(LinkLost, match="in use") as caught:
            asyncio.run(_open(str(pty.link)))
        assert str(other.pid) in caught.value.hint
        other.kill()


async def _open(path: str) -> None:
    (await open_serial(SerialPort(path=path))).close()


def test_what_is_no_port_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no port")
    with pytest.raises(LinkLost) as caught:
        asyncio.run(_open(str(tmp_path / "file")))
    assert caught.value.hint
    with pytest.raises(LinkLost, match="not there") as missing:
        asyncio.run(_open(str(tmp_path / "nothing")))
    assert missing.value.hint


def test_rs485_without_a_driver_for_it_is_a_note_not_a_failure(pty: Pty) -> None:
    async def main() -> None:
        stream = await open_serial(SerialPort(path=str(pty.link), rs485=Rs485()))
        assert any("RS-485" in note for note in stream.notes)
        os.write(pty.far, b"x")
        assert await _read(stream, 1) == b"x"
        stream.close()

    asyncio.run(main())


def test_a_line_that_takes_nothing_is_lost_before_memory_grows(pty: Pty) -> None:
    async def main() -> None:
        stream = await open_serial(SerialPort(path=str(pty.link)))
        with pytest.raises(LinkLost, match="takes no bytes"):
            await write(stream)
        stream.close()

    async def write(stream: SerialStream) -> None:
        for _ in range(WRITE_BUFFER_MAX // 512 + 64):
            await stream.write(b"x" * 512)

    asyncio.run(main())


def test_a_full_line_gets_the_rest_in_order_when_it_takes_bytes_again(pty: Pty) -> None:
    async def main() -> None:
        stream = await open_serial(SerialPort(path=str(pty.link)))
        sent = bytes(number % 251 for number in range(40_000))
        await stream.write(sent)
        got = b""
        async with asyncio.timeout(5):
            while len(got) < len(sent):
                got += pty.received()
                await asyncio.sleep(0.001)
        assert got == sent
        stream.close()
        stream.close()

    asyncio.run(main())
