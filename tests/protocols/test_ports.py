import pytest

from protocols.ports import SerialPort, check_port


@pytest.mark.parametrize("path", ["/dev/ttyUSB0", "/dev/ttyACM12"])
def test_a_numbered_adapter_is_a_warning(path: str) -> None:
    assert [(where, warning) for where, _, warning in check_port(SerialPort(path=path))] == [
        (("path",), True)
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/dev/serial/by-id/usb-FTDI_1-if00-port0",
        "/dev/ttyAMA0",
        "/dev/pts/4",
        "/run/bench/rs485-0",
    ],
)
def test_other_names_are_fine_with_parity(path: str) -> None:
    assert not list(check_port(SerialPort(path=path, parity="even", data_bits=7)))


@pytest.mark.parametrize(("path", "target"), [("/dev/ttyS0", ""), ("/dev/serial1", "/dev/ttyS0")])
def test_parity_on_the_mini_uart_is_refused(path: str, target: str) -> None:
    (fault,) = check_port(SerialPort(path=path, parity="even"), target=target)
    assert fault[0] == ("parity",)
    assert fault[2] is False


def test_the_mini_uart_without_parity_and_the_full_uart_with_it_are_fine() -> None:
    assert not list(check_port(SerialPort(path="/dev/ttyS0")))
    assert not list(
        check_port(SerialPort(path="/dev/serial1", parity="odd"), target="/dev/ttyAMA0")
    )
