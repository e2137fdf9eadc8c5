"""A port is opened by a program of somebody else's making: pyserial here, mbpoll elsewhere."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import serial

from hil.parts.line import Line, Port
from hil.parts.waiting import until


def opened(port: Port, baud: int = 9600) -> serial.Serial:
    return serial.Serial(str(port.link), baud, timeout=2)


def test_bytes_go_both_ways_unchanged(tmp_path: Path) -> None:
    every_byte = bytes(range(256))

    async def run() -> None:
        heard = bytearray()
        with Port(tmp_path / "panel") as port:
            port.received = heard.extend
            program = opened(port)
            port.send(every_byte)
            assert await asyncio.to_thread(program.read, 256) == every_byte
            program.write(every_byte)
            await until(lambda: len(heard) == 256, within_s=5, what="all bytes")
            assert bytes(heard) == every_byte
            program.close()

    asyncio.run(run())


def test_the_device_sees_the_speed_that_was_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        with Port(tmp_path / "panel") as port:
            opened(port, 19200).close()
            assert port.baud == 19200
            opened(port, 1200).close()
            assert port.baud == 1200

    asyncio.run(run())


def test_a_pulled_adapter_fails_reads_and_comes_back_under_its_name(tmp_path: Path) -> None:
    async def run() -> None:
        with Port(tmp_path / "panel") as port:
            program = opened(port)
            port.unplug()
            assert not port.link.exists()
            with pytest.raises((serial.SerialException, OSError)):
                program.read(1)
            program.close()
            port.send(b"into the air")
            assert port.lost_bytes == 12
            port.plug()
            program = opened(port)
            port.send(b"back")
            assert await asyncio.to_thread(program.read, 4) == b"back"
            program.close()
        assert not port.link.is_symlink()

    asyncio.run(run())


def test_a_program_may_close_and_open_again(tmp_path: Path) -> None:
    async def run() -> None:
        heard = bytearray()

        def arrived(count: int) -> bool:
            return len(heard) == count

        with Port(tmp_path / "panel") as port:
            port.received = heard.extend
            for count, word in enumerate((b"one", b"two"), 1):
                with opened(port) as program:
                    program.write(word)
                    await until(partial(arrived, 3 * count), within_s=5, what=str(word))
        assert heard == b"onetwo"

    asyncio.run(run())


def test_bytes_that_nobody_reads_are_lost_and_counted(tmp_path: Path) -> None:
    async def run() -> None:
        with Port(tmp_path / "panel") as port:
            for _ in range(100):
                port.send(bytes(4096))
            assert port.lost_bytes > 0

    asyncio.run(run())


class Far:
    """An end that keeps what it was sent."""

    def __init__(self) -> None:
        self.received: Callable[[bytes], None] = lambda data: None
        self.pieces: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.pieces.append(data)

    @property
    def heard(self) -> bytes:
        return b"".join(self.pieces)


def test_a_line_joins_two_programs(tmp_path: Path) -> None:
    async def run() -> None:
        with Port(tmp_path / "a") as a, Port(tmp_path / "b") as b:
            Line(a, b)
            with opened(a) as one, opened(b) as other:
                one.write(b"ping")
                assert await asyncio.to_thread(other.read, 4) == b"ping"
                other.write(b"pong")
                assert await asyncio.to_thread(one.read, 4) == b"pong"

    asyncio.run(run())


def spoiled(data: bytes, **faults: float) -> Far:
    async def run() -> Far:
        a, b = Far(), Far()
        line = Line(a, b, seed=3)
        for name, value in faults.items():
            setattr(line.faults, name, value)
        a.received(data)
        await asyncio.sleep(0.2 if faults.keys() & {"baud", "delay_s"} else 0)
        return b

    return asyncio.run(run())


def test_each_fault_does_what_it_says() -> None:
    data = os.urandom(400)
    assert spoiled(data).heard == data
    assert spoiled(data, mute=True).heard == b""
    assert 0 < len(spoiled(data, drop=0.5).heard) < 400
    assert 400 < len(spoiled(data, double=0.5).heard) < 800
    flipped = spoiled(data, flip=0.5).heard
    assert len(flipped) == 400
    assert 0 < sum(a != b for a, b in zip(data, flipped, strict=True)) < 400
    assert all((a ^ b).bit_count() <= 1 for a, b in zip(data, flipped, strict=True))
    pieces = spoiled(data, piece_bytes=7).pieces
    assert b"".join(pieces) == data
    assert len(pieces) == 58


def test_a_slow_line_keeps_the_order() -> None:
    assert spoiled(b"0123456789", baud=9600, piece_bytes=1).heard == b"0123456789"
    assert spoiled(b"0123456789", delay_s=0.01).heard == b"0123456789"
