from pathlib import Path

import msgspec

from events.settings import read
from protocols.contact_id import config
from protocols.contact_id.config import Receiver, check
from protocols.ports import SerialPort

SAMPLE = Path(config.__file__).with_name("sample.toml")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    receiver: tuple[Receiver, ...]


def _read(text: str) -> Receiver:
    settings = read(text, _File)
    assert settings.faults == []
    assert settings.value is not None
    return settings.value.receiver[0]


def test_the_sample_is_read_and_has_no_fault() -> None:
    receiver = _read(SAMPLE.read_text())
    assert receiver.port.parity == "even"
    assert receiver.point[0].id == "hall/panic-button"
    assert list(check(receiver)) == []


def test_what_the_sample_shows_commented_out_are_the_defaults() -> None:
    spelled_out = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in SAMPLE.read_text().splitlines()
    )
    sample, full = _read(SAMPLE.read_text()), _read(spelled_out)
    assert full.point[0].partition == "01"  # shown as an example: any is the default
    point = msgspec.structs.replace(full.point[0], partition=None)
    assert msgspec.structs.replace(full, point=(point,)) == sample


def test_every_cross_field_fault_is_told_at_once() -> None:
    receiver = _read(
        """
        [[receiver]]
        id = "r"
        format = "685"
        port = {path = "/dev/ttyAMA0", data_bits = 7}
        strip_parity = true
        acknowledge_within_s = 6
        repeat_window_s = 5
        silence_s = 20
        [[receiver.point]]
        id = "a"
        account = "1234"
        zone = "001"
        [[receiver.point]]
        id = "a"
        account = "1234"
        zone = "001"
        [[receiver.point]]
        id = "b"
        account = "1234"
        zone = "001"
        address = "user"
        """
    )
    assert [(path, warning) for path, _, warning in check(receiver)] == [
        (("acknowledge_within_s",), True),
        (("repeat_window_s",), True),
        (("silence_s",), True),
        (("strip_parity",), False),
        (("point", 1, "id"), False),
        (("point", 1, "zone"), False),
    ]


def test_one_zone_may_have_a_point_per_partition() -> None:
    points = tuple(
        config.ReceiverPoint(id=f"p{number}", account="1234", zone="001", partition=number)
        for number in ("01", "02")
    )
    receiver = Receiver(id="r", format="mlr2", port=SerialPort(path="/dev/x"), point=points)
    assert list(check(receiver)) == []
