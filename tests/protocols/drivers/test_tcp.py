import asyncio

import pytest

from events.errors import LinkLost
from protocols.drivers.tcp import WRITE_BUFFER_MAX, TcpStream, open_tcp


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
        if b"bye" in data:
            break
    writer.close()
    await writer.wait_closed()


def test_bytes_go_both_ways_until_the_other_side_closes() -> None:
    async def main() -> None:
        server = await asyncio.start_server(_echo, "127.0.0.1", 0)
        async with server, asyncio.timeout(5):
            stream = await open_tcp(*server.sockets[0].getsockname(), connect_timeout_s=2)
            await stream.write(b"hello")
            assert await stream.read() == b"hello"
            await stream.write(b"bye")
            assert await stream.read() == b"bye"
            with pytest.raises(LinkLost, match="closed by the other side"):
                await stream.read()
            stream.close()
            with pytest.raises(LinkLost):
                await stream.write(b"x")

    asyncio.run(main())


def test_nobody_listening_is_said_with_a_hint() -> None:
    async def main() -> int:
        server = await asyncio.start_server(_echo, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return port

    port = asyncio.run(main())
    with pytest.raises(LinkLost, match=str(port)) as caught:
        asyncio.run(open_tcp("127.0.0.1", port, connect_timeout_s=2))
    assert "listens" in caught.value.hint


def test_a_peer_that_takes_nothing_is_lost_before_memory_grows() -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.close()

        server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=16)
        async with server, asyncio.timeout(20):
            stream = await open_tcp(*server.sockets[0].getsockname(), connect_timeout_s=2)
            with pytest.raises(LinkLost, match="takes no bytes"):
                await flood(stream)
            stream.close()
            release.set()

    async def flood(stream: TcpStream) -> None:
        for _ in range((1 << 28) // WRITE_BUFFER_MAX):
            await stream.write(bytes(WRITE_BUFFER_MAX // 2))
            await asyncio.sleep(0)

    asyncio.run(main())
