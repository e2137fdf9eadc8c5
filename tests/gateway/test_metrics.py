import re
from typing import Any

from gateway.metrics import exposition

LINE = {
    "id": 'bus-"1"\n',
    "up": True,
    "last_error": "",
    "starts": 1,
    "lost": 0,
    "failed": 0,
    "observations": 12,
    "refused": 0,
    "counters": {"frames": 1000, "crc": 3},
    "details": {},
    "units": [{"id": "cellar", "up": False}, {"id": "odd"}],
}
STATUS: dict[str, Any] = {
    "name": "hall",
    "version": "1",
    "uptime_s": 1.5,
    "head": 77,
    "oldest_unsent_s": 0.0,
    "annunciation": {"not_delivered": True},
    "store": {"state": "ok", "bytes": 4096, "bound": 10_000, "written_bytes": 77},
    "stations": [
        {
            "name": "east",
            "stored": 70,
            "urgent_stored": 77,
            "paths": [{"name": "fibre", "up": True}],
        }
    ],
    "buses": [LINE],
    "receivers": [],
    "gpio": None,
}
_SAMPLE = re.compile(
    r'nplus_gateway_[a-z_]+(\{[a-z]+="(\\.|[^"\\\n])*"(,[a-z]+="(\\.|[^"\\\n])*")*\})? -?[0-9.e+]+'
)


def test_every_line_is_a_sample_or_a_type_and_families_stand_together() -> None:
    text = exposition(STATUS)
    families = []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        else:
            assert _SAMPLE.fullmatch(line), line
            assert line.startswith(families[-1])
    assert len(families) == len(set(families))


def test_labels_are_escaped() -> None:
    assert '{line="bus-\\"1\\"\\n",counter="crc"} 3' in exposition(STATUS)


def test_what_waits_is_counted_in_seconds_and_nothing_waiting_is_zero() -> None:
    assert "oldest_unsent_seconds 0" in exposition(STATUS)
    assert "nplus_gateway_not_delivered 1" in exposition(STATUS)
    assert "oldest_unsent_seconds 3.5" in exposition({**STATUS, "oldest_unsent_s": 3.5})
