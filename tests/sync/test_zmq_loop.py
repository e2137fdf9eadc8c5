import asyncio
import time

import pytest
import zmq

from events.errors import ConfigError
from sync.zmq_loop import LoopSocket, endpoint


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1:5140", "tcp://10.0.0.1:5140"),
        ("tcp://10.0.0.1:5140", "tcp://10.0.0.1:5140"),
        ("station.example:5140", "tcp://station.example:5140"),
        ("[fe80::1]:5140", "tcp://[fe80::1]:5140"),
    ],
)
def test_an_address_is_taken_with_or_without_its_scheme(address: str, expected: str) -> None:
    assert endpoint(address) == expected
    assert endpoint(address, listen=True) == expected


def test_everywhere_and_any_port_are_for_listening_only() -> None:
    assert endpoint("*:5140", listen=True) == "tcp://*:5140"
    assert endpoint("127.0.0.1:0", listen=True) == "tcp://127.0.0.1:*"
    for address in ("*:5140", "127.0.0.1:0"):
        with pytest.raises(ConfigError):
            endpoint(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        "host",
        "host:",
        ":5140",
        "host:port",
        "host:70000",
        "udp://host:1",
        "a b:1",
        "h/x:1",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    for listen in (False, True):
        with pytest.raises(ConfigError) as caught:
            endpoint(address, listen=listen)
        assert "192.168.1.10:5140" in caught.value.hint


def test_sending_does_not_take_the_signal_of_a_message_that_came() -> None:
    """The descriptor speaks once; whoever sends reads what it said, and has to pass it on."""

    async def scenario() -> None:
        context = zmq.Context()
        stirred: list[int] = []
        router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        try:
            port = router.bind_to_random_port("tcp://127.0.0.1")
            line = LoopSocket(router, lambda: stirred.append(1))
            dealer.connect(f"tcp://127.0.0.1:{port}")
            dealer.send(b"hello")
            while (frames := line.receive()) is None:  # noqa: ASYNC110 - without its signal
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            assert not line.has_input()
            stirred.clear()
            dealer.send(b"alarm")
            time.sleep(0.1)  # noqa: ASYNC251 - it comes while the loop does something else
            line.send([frames[0].bytes, b"answer"])
            await asyncio.sleep(0.1)
            assert stirred
            line.close()
        finally:
            dealer.close(linger=0)
            context.destroy(linger=0)

    asyncio.run(scenario())
