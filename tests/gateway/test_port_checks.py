from pathlib import Path

import pytest

from gateway.port_checks import is_mini_uart, port_findings
from protocols.ports import SerialPort


def machine(root: Path, compatible: bytes) -> Path:
    """Lay out `/sys` of a machine whose serial0 is a port of this kind; return the port."""
    port = Path("/dev/null")  # any character device
    node = root / "sys/class/tty" / port.name / "device/of_node"
    node.mkdir(parents=True)
    (node / "compatible").write_bytes(compatible)
    (root / "dev").mkdir()
    (root / "dev/serial0").symlink_to(port)
    return root / "dev/serial0"


@pytest.mark.parametrize(
    ("compatible", "parity", "refused"),
    [
        (b"brcm,bcm2835-aux-uart\0", "even", True),
        (b"brcm,bcm2835-aux-uart\0", "none", False),
        (b"arm,pl011\0arm,primecell\0", "even", False),
    ],
)
def test_parity_on_the_mini_uart_is_refused(
    tmp_path: Path, compatible: bytes, parity: str, refused: bool
) -> None:
    path = machine(tmp_path, compatible)
    port = SerialPort(path=str(path), parity=parity)  # type: ignore[arg-type]  # parametrized
    found = list(port_findings(port, path, root=tmp_path))
    assert [(key, warning) for key, _, warning in found if key == "parity"] == (
        [("parity", False)] if refused else []
    )


@pytest.mark.parametrize(("parity", "refused"), [("even", True), ("odd", True), ("none", False)])
def test_the_mini_uart_is_known_by_name_where_the_file_is_checked_elsewhere(
    tmp_path: Path, parity: str, refused: bool
) -> None:
    port = SerialPort(path="/dev/ttyS0", parity=parity)  # type: ignore[arg-type]  # parametrized
    found = list(port_findings(port, Path(port.path), root=tmp_path))
    assert any(key == "parity" and not warning for key, _, warning in found) == refused


def test_a_port_without_device_tree_is_no_mini_uart(tmp_path: Path) -> None:
    assert not is_mini_uart(Path("/dev/null"), root=tmp_path)


def test_the_stable_name_of_an_unstable_port_is_suggested(tmp_path: Path) -> None:
    folder = tmp_path / "dev/serial/by-id"
    folder.mkdir(parents=True)
    (folder / "usb-other").symlink_to("/dev/ttyUSB6")
    (folder / "usb-FTDI_A1").symlink_to("/dev/ttyUSB7")
    found = list(
        port_findings(SerialPort(path="/dev/ttyUSB7"), Path("/dev/ttyUSB7"), root=tmp_path)
    )
    key, message, warning = found[0]
    assert (key, warning) == ("path", True)
    assert f"use {folder}/usb-FTDI_A1" in message
