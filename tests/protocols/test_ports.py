import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.ports import SerialPort, split_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.5", ("10.0.0.5", 502)),
        ("10.0.0.5:1502", ("10.0.0.5", 1502)),
        ("plant.example:1", ("plant.example", 1)),
        ("[fe80::1]:1502", ("fe80::1", 1502)),
        ("[fe80::1]", ("fe80::1", 502)),
        ("fe80::1", ("fe80::1", 502)),
    ],
)
def test_addresses_in_form(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address, default_port=502) == expected


@pytest.mark.parametrize("address", ["", ":502", "host:0", "host:65536", "h:²", "[::1]5"])
def test_addresses_out_of_form(address: str) -> None:
    with pytest.raises(ValueError, match=r"names no host|not a port number|may follow"):
        split_address(address, default_port=502)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = split_address(text, default_port=502)
    except ValueError:
        return
    assert host
    assert 0 < port < 65536


@pytest.mark.parametrize(
    ("bits", "parity", "stop", "expected"),
    [(8, "even", 1, 11), (8, "none", 1, 10), (7, "even", 2, 11)],
)
def test_a_character_takes_all_its_bits(bits: int, parity: str, stop: int, expected: int) -> None:
    port = SerialPort(
        path="x",
        baud=9600,
        data_bits=bits,  # type: ignore[arg-type]  # parametrized
        parity=parity,  # type: ignore[arg-type]  # parametrized
        stop_bits=stop,  # type: ignore[arg-type]  # parametrized
    )
    assert port.character_s() == pytest.approx(expected / 9600)
