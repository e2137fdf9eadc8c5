import pytest

from events.errors import ConfigError
from sync.zmq_loop import endpoint


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
