import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hil.parts.network import Network, free_port

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Network], Awaitable[None]]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


def talk(conversation: Talk, **settings: float) -> None:
    """Run a conversation through a network to a server that echoes."""

    async def run() -> None:
        server = await asyncio.start_server(_echo, "127.0.0.1", 0)
        async with server, Network("127.0.0.1", server.sockets[0].getsockname()[1]) as network:
            for name, value in settings.items():
                setattr(network, name, value)
            reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
            try:
                async with asyncio.timeout(20):
                    await conversation(reader, writer, network)
            finally:
                writer.close()

    asyncio.run(run())


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes) -> bytes:
    writer.write(word)
    return await reader.readexactly(len(word))


def test_it_carries_everything() -> None:
    async def conversation(r: asyncio.StreamReader, w: asyncio.StreamWriter, n: Network) -> None:
        assert await said(r, w, b"hello") == b"hello"
        big = bytes(range(256)) * 1000
        w.write(big)
        assert await r.readexactly(len(big)) == big
        assert n.carried_bytes == 2 * (len(big) + 5)

    talk(conversation)


def test_a_stalled_network_says_nothing_and_delivers_after_the_heal() -> None:
    async def conversation(r: asyncio.StreamReader, w: asyncio.StreamWriter, n: Network) -> None:
        assert await said(r, w, b"before") == b"before"
        n.become("stall")
        w.write(b"during")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await r.read(1)
        new_reader, new_writer = await asyncio.open_connection("127.0.0.1", n.port)
        new_writer.write(b"new")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await new_reader.read(1)
        n.become("pass")
        assert await r.readexactly(6) == b"during"
        assert await new_reader.readexactly(3) == b"new"
        new_writer.close()

    talk(conversation)


def test_the_end_of_a_connection_is_not_seen_through_a_stall() -> None:
    async def run() -> None:
        closed = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(100):
                pass
            closed.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Network("127.0.0.1", server.sockets[0].getsockname()[1]) as network:
            _, writer = await asyncio.open_connection("127.0.0.1", network.port)
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)
            network.become("stall")
            writer.close()
            await asyncio.sleep(0.2)
            assert not closed.is_set()
            network.become("pass")
            async with asyncio.timeout(5):
                await closed.wait()

    asyncio.run(run())


def test_a_reset_breaks_what_is_open_and_lets_new_ones_in() -> None:
    async def conversation(r: asyncio.StreamReader, w: asyncio.StreamWriter, n: Network) -> None:
        assert await said(r, w, b"a") == b"a"
        n.become("reset")
        with pytest.raises(ConnectionResetError):
            assert await r.read(1) == b"never"
        reader, writer = await asyncio.open_connection("127.0.0.1", n.port)
        assert await said(reader, writer, b"b") == b"b"
        writer.close()

    talk(conversation)


def test_a_refusing_network_lets_nobody_in() -> None:
    async def conversation(r: asyncio.StreamReader, w: asyncio.StreamWriter, n: Network) -> None:
        n.become("refuse")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(r, w, b"b")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(*await asyncio.open_connection("127.0.0.1", n.port), b"b")

    talk(conversation)


def test_delay_and_rate_slow_it_down() -> None:
    async def delayed(r: asyncio.StreamReader, w: asyncio.StreamWriter, n: Network) -> None:
        start = asyncio.get_running_loop().time()
        assert await said(r, w, b"x") == b"x"
        assert asyncio.get_running_loop().time() - start >= 0.2

    talk(delayed, delay_s=0.1)

    async def slow(r: asyncio.StreamReader, w: asyncio.StreamWriter, n: Network) -> None:
        start = asyncio.get_running_loop().time()
        for _ in range(3):
            assert await said(r, w, b"x" * 100) == b"x" * 100
        assert asyncio.get_running_loop().time() - start >= 0.2

    talk(slow, rate_bytes_per_s=1000)


def test_nobody_at_the_far_end_is_a_reset() -> None:
    async def run() -> None:
        async with Network("127.0.0.1", free_port()) as network:
            reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
            async with asyncio.timeout(5):
                with pytest.raises(ConnectionResetError):
                    assert await reader.read(1) == b"never"
            writer.close()

    asyncio.run(run())


def test_it_ends_with_connections_open() -> None:
    async def conversation(r: asyncio.StreamReader, w: asyncio.StreamWriter, n: Network) -> None:
        assert await said(r, w, b"a") == b"a"
        n.become("stall")
        w.write(b"stuck")

    talk(conversation)
