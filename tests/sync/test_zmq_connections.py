"""Which connections of a gateway count."""

from events.model import Instant, Stamp
from events.replication import Hello, Lane
from sync.progress import Progress
from sync.sink import Sink
from sync.zmq_connections import FRESH_S, Connection, Gateway


def connection(route: bytes, path: str, at: float, *, lost: tuple[str, ...] = ()) -> Connection:
    hello = Hello(
        protocol_min=1,
        protocol_max=1,
        program="t",
        name="gw",
        boot_id="b",
        lane=Lane.MAIN,
        path=path,
        logs=(),
        stamp=Stamp(monotonic_us=1, boot_id="b"),
        lost=lost,
    )
    sink = Sink(
        gateway="gw",
        name="st",
        program="t",
        boot_id="s",
        progress=Progress(),
        now=Instant(monotonic=at),
    )
    return Connection(route, "key", "gw", sink, at, greeted=hello, since=at)


def test_a_path_that_is_said_to_be_lost_counts_no_more() -> None:
    lan = connection(b"1", "lan", 100.0)
    lte = connection(b"2", "lte", 100.0 + FRESH_S, lost=("lan",))
    gateway = Gateway("gw", connections={each.route: each for each in (lan, lte)})
    assert gateway.superseded(lte) == [lan]


def test_paths_that_come_back_together_do_not_call_each_other_lost() -> None:
    lan = connection(b"1", "lan", 100.0, lost=("lte",))
    lte = connection(b"2", "lte", 100.1, lost=("lan",))
    gateway = Gateway("gw", connections={each.route: each for each in (lan, lte)})
    assert gateway.superseded(lan) == []
    assert gateway.superseded(lte) == []
