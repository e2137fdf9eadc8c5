import pytest

from events.errors import EX_USAGE, UsageError
from protocols.contact_id.monitor import PROTOCOLS
from protocols.decode import decode, names


def test_every_decoder_runs_on_nothing_at_all() -> None:
    for name in names():
        assert list(decode(name, b"")) == [
            {"counts": {"frames": 0, "rejected": 0, "discarded_bytes": 0}}
        ]


def test_every_format_of_the_engines_is_registered() -> None:
    assert set(PROTOCOLS) <= set(names())
    assert {"modbus-rtu", "modbus-tcp"} <= set(names())


def test_an_unknown_protocol_is_a_usage_error_that_names_the_closest() -> None:
    with pytest.raises(UsageError, match="contactid-mlr2") as caught:
        decode("contactid-mlr2", b"")
    assert caught.value.exit_code == EX_USAGE
    assert "did you mean contact-id-mlr2" in caught.value.hint


def test_modbus_answers_are_judged_against_their_request() -> None:
    request, answer = "010300000001840a", "0103020007f986"
    lines = list(decode("modbus-rtu", bytes.fromhex(answer), request=bytes.fromhex(request)))
    assert [next(iter(line)) for line in lines] == ["frame", "counts"]
