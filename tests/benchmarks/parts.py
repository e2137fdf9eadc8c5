"""The parts of a bench run: which rows each fills, how long it may take, and how it is measured.

Each part is run in a process of its own (`tests.benchmarks.worker`), some in a network of their
own. What measures returns plain data; here it becomes values of rows.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sync.messages import encode_entries
from tests.benchmarks import append, catchup, costs, floor, latency, load, over_line, thousand
from tests.benchmarks.figures import Beside, Goal, Measured, Row, median, quantile
from tests.benchmarks.peers import tools

EVENTS = 1_000_000
PEER_EVENTS = {"mosquitto": 50_000, "nats-server": 200_000}
SLOW_KBIT, SLOW_LOSS = 256, 0.01
ROUND_TRIP_S = 0.2
TASKS = 64
THOUSAND_RATE = 11_000.0  # a little more than the goal: what is stored can only be less


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """scratch: a folder that the parts of one call share. quick: fewer and smaller runs."""

    scratch: Path
    quick: bool = False

    @property
    def runs(self) -> int:
        return 1 if self.quick else 3

    def count(self, full: int) -> int:
        return max(1, full // 20) if self.quick else full


Run = Callable[[Setting], dict[str, Measured]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """limit_s: after this the part is ended and reported as failed."""

    rows: tuple[Row, ...]
    run: Run
    limit_s: float
    own_network: bool = False


def _ms(seconds: Sequence[float], share: float) -> float:
    return quantile(seconds, share) * 1e3


def _latencies(setting: Setting) -> dict[str, Measured]:
    count = setting.count(100)
    runs: dict[str, list[list[float]]] = {"receiver": [], "contact": [], "raw": []}
    for _ in range(setting.runs):
        runs["receiver"].append(asyncio.run(latency.contact_id(count)))
        runs["contact"].append(asyncio.run(latency.contact(count)))
        runs["raw"].append(floor.sqlite_commit(count))
    result = {}
    for key, rows in (("receiver", _RECEIVER), ("contact", _CONTACT)):
        for row, share in zip(rows, (0.5, 0.99), strict=True):
            raw = tuple(_ms(run, share) for run in runs["raw"])
            result[row.name] = Measured(
                values=tuple(_ms(run, share) for run in runs[key]),
                beside=(Beside(name="one raw SQLite commit", unit="ms", values=raw),),
                note=f"n={count} a run",
            )
    return result


def _start(setting: Setting) -> dict[str, Measured]:
    times = asyncio.run(load.first_scan(3 if setting.quick else 7))
    return {_FIRST_SCAN.name: Measured(values=tuple(times))}


def _polling(setting: Setting) -> dict[str, Measured]:
    seconds = 5.0 if setting.quick else 8.0
    ours = [asyncio.run(load.polling(seconds)) for _ in range(setting.runs)]
    peer = [asyncio.run(load.peer_polling(seconds)) for _ in range(setting.runs)]
    note = f"{median([run['rate'] for run in ours]):.0f} answers/s"
    return {
        _POLL_MEMORY.name: Measured(
            values=tuple(run["resident_bytes"] / 1e6 for run in ours), note=note
        ),
        _POLL_CORE.name: Measured(
            values=tuple(run["core"] * 100 for run in ours),
            note=note,
            beside=(
                Beside(
                    name="pymodbus' client and the simulated module in one process",
                    unit="% of a core",
                    values=tuple(run["core"] * 100 for run in peer),
                ),
            ),
        ),
    }


def _catchup(setting: Setting) -> dict[str, Measured]:
    events = setting.count(EVENTS)
    runs = [asyncio.run(over_line.loopback(setting.scratch, events)) for _ in range(setting.runs)]
    peers = _peer_catchups(setting)
    ours = tuple(run["rate"] for run in runs)
    per_event = ", ".join(
        f"{side} {median([run[f'{side}_us'] for run in runs]):.1f} µs"
        for side in ("gateway", "station")
    )
    best = max((median(peer.values) for peer in peers if peer.values), default=0.0)
    ratio = Measured(failed="no peer could be measured")
    if best:
        ratio = Measured(values=tuple(rate / best for rate in ours))
    return {
        _CATCHUP.name: Measured(
            values=ours,
            beside=peers,
            note=f"{events:,} events a run; processor time for each: {per_event}",
        ),
        _RATIO.name: ratio,
        _DRAIN_MEMORY.name: Measured(
            values=tuple(run["gateway_peak_bytes"] / 1e6 for run in runs),
            beside=(
                Beside(
                    name="the station's",
                    unit="MB",
                    values=tuple(run["station_peak_bytes"] / 1e6 for run in runs),
                ),
            ),
        ),
    }


def _peer_catchups(setting: Setting) -> tuple[Beside, ...]:
    def rates(script: str, program: str) -> Callable[[], list[float]]:
        def measure() -> list[float]:
            arguments = [
                tools.program(program),
                str(setting.count(PEER_EVENTS[program])),
                str(catchup.BODY_BYTES),
            ]
            return [
                tools.run(script, "clients", arguments, within_s=120)["rate"]
                for _ in range(setting.runs)
            ]

        return measure

    return (
        tools.beside(
            "Mosquitto bridge, QoS 1, not durable at the far end",
            "ev/s",
            rates("mosquitto_bridge.py", "mosquitto"),
        ),
        tools.beside(
            "NATS JetStream leaf, file store, lazy fsync",
            "ev/s",
            rates("nats_leaf.py", "nats-server"),
        ),
    )


def _long_way(setting: Setting) -> dict[str, Measured]:
    events = setting.count(400_000)
    runs = [
        asyncio.run(
            over_line.over_line(
                setting.scratch, events=events, within_s=60, round_trip_s=ROUND_TRIP_S
            )
        )
        for _ in range(setting.runs)
    ]
    return {
        _LONG_WAY.name: Measured(
            values=tuple(run["rate"] for run in runs), note=f"{events:,} events a run"
        )
    }


def _slow_line(setting: Setting) -> dict[str, Measured]:
    """Alarms on the slow line, and the share of its bits that were compressed events meanwhile."""
    events, count = 200_000, 30 if setting.quick else 100
    runs = [
        asyncio.run(
            over_line.alarms(
                setting.scratch,
                events=events,
                count=count,
                pause_s=0.1,
                rate_kbit=SLOW_KBIT,
                loss=SLOW_LOSS,
            )
        )
        for _ in range(setting.runs)
    ]
    packed = over_line.packed_bytes_per_event(setting.scratch, events, encode_entries)
    line_bytes_per_s = SLOW_KBIT * 1000 / 8
    shares = tuple(run.rate * packed / line_bytes_per_s * 100 for run in runs)
    rate, elapsed = (median([getattr(run, key) for run in runs]) for key in ("rate", "elapsed_s"))
    return {
        _SLOW_LINE.name: Measured(
            values=shares,
            note=f"{rate:,.0f} ev/s of {packed:.1f} compressed bytes; {elapsed:.0f} s a run",
        ),
        _ALARM_SLOW.name: Measured(
            values=tuple(_ms(run.delays_s, 0.99) for run in runs),
            note=f"n={min(len(run.delays_s) for run in runs)} a run, in the same runs",
        ),
    }


def _alarms(setting: Setting) -> dict[str, Measured]:
    events, count = setting.count(EVENTS), setting.count(200)
    runs = [
        asyncio.run(over_line.alarms(setting.scratch, events=events, count=count, pause_s=0.02))
        for _ in range(setting.runs)
    ]
    fewest = min(len(run.delays_s) for run in runs)
    if not fewest:
        raise RuntimeError("the backlog was gone before the first alarm")
    return {
        _ALARM_LOOPBACK.name: Measured(
            values=tuple(_ms(run.delays_s, 0.99) for run in runs),
            note=f"n={fewest} or more a run, {events:,} events of backlog",
        )
    }


def _append(setting: Setting) -> dict[str, Measured]:
    single, many = setting.count(1000), setting.count(60_000)
    runs, raw_rates = [], []
    for _ in range(setting.runs):
        runs.append(asyncio.run(append.measure(single=single, many=many, tasks=TASKS)))
        raw_rates.append(floor.sqlite_rate(many, TASKS))
    ones = tuple(median(run.raw_s) * 1e3 for run in runs)
    hops = tuple(median(run.hops_s) * 1e3 for run in runs)

    def storage() -> list[float]:
        return [
            tools.run("thingsboard_storage.py", "thingsboard", [str(many)], within_s=120)[
                "drained_rate"
            ]
            for _ in range(setting.runs)
        ]

    peer = tools.beside(
        "ThingsBoard gateway's SQLite storage, synchronous=NORMAL", "ev/s", storage
    )
    raw_rate = Beside(
        name=f"raw SQLite, {TASKS} in a commit", unit="ev/s", values=tuple(raw_rates)
    )
    return {
        _APPEND_ONE.name: Measured(
            values=tuple(median(run.store_s) / median(run.raw_s) for run in runs),
            beside=(
                Beside(name="one raw commit", unit="ms", values=ones),
                Beside(name="to a thread and back alone", unit="ms", values=hops),
            ),
            note=f"medians of {single}",
        ),
        _APPEND_MANY.name: Measured(
            values=tuple(run.rate for run in runs), beside=(raw_rate, peer)
        ),
    }


def _alarm_writes(setting: Setting) -> dict[str, Measured]:
    count = setting.count(200)
    runs = [asyncio.run(costs.alarm_writes(count, 0.1)) for _ in range(setting.runs)]
    values = tuple(run["bytes_per_alarm"] / 1024 for run in runs)

    def storage() -> list[float]:
        found = tools.run("thingsboard_storage.py", "thingsboard", ["1", "200"], within_s=120)
        return [found["bytes_per_event"] / 1024]

    peer = tools.beside("ThingsBoard gateway's SQLite storage, one by one", "KiB", storage)
    return {_ALARM_WRITES.name: Measured(values=values, beside=(peer,), note=f"n={count} a run")}


def _idle(setting: Setting) -> dict[str, Measured]:
    """Two periods of a metered path."""
    seconds = 20.0 if setting.quick else 181.0
    run = asyncio.run(costs.idle(seconds))
    note = f"extrapolated from {seconds:.0f} s"
    a_day = (
        (_IDLE_WRITES, "written_bytes_per_day"),
        (_IDLE_FIRST, "first_bytes_per_day"),
        (_IDLE_SECOND, "second_bytes_per_day"),
    )
    rows = {row.name: Measured(values=(run[key] / 2**20,), note=note) for row, key in a_day}
    core = Measured(values=(run["core"] * 100,), note=f"{seconds:.0f} s")
    return rows | {_IDLE_CORE.name: core}


def _memory(setting: Setting) -> dict[str, Measured]:
    events = setting.count(EVENTS)
    runs = [asyncio.run(costs.memory(setting.scratch, events)) for _ in range(setting.runs)]
    empty = tuple(run["empty_bytes"] / 1e6 for run in runs)
    return {
        _MEMORY.name: Measured(
            values=tuple(run["full_bytes"] / 1e6 for run in runs),
            beside=(Beside(name="without backlog", unit="MB", values=empty),),
            note=f"{events:,} events",
        ),
        _MEMORY_GROWTH.name: Measured(
            values=tuple((run["full_bytes"] - run["empty_bytes"]) / 1e6 for run in runs)
        ),
        _START_FULL.name: Measured(
            values=tuple(run["start_s"] for run in runs), note=f"{events:,} events"
        ),
    }


def _thousand(setting: Setting) -> dict[str, Measured]:
    count = 100 if setting.quick else 1000
    runs = [thousand.measure(count=count, rate=THOUSAND_RATE) for _ in range(setting.runs)]

    def values(key: str, factor: float) -> tuple[float, ...]:
        return tuple(float(run[key]) * factor for run in runs)

    note = f"{count} gateways, in one process that takes {median(values('lights_core', 100)):.0f} % of a core"
    return {
        _THOUSAND_RATE.name: Measured(values=values("stored_rate", 1), note=note),
        _THOUSAND_ALARM.name: Measured(values=values("alarm_p99_s", 1e3), note="in the same runs"),
        _THOUSAND_IDLE.name: Measured(values=values("idle_core", 100), note=f"{count} gateways"),
    }


_RECEIVER = (
    Row(name="Contact ID, last byte → station's commit, p50", unit="ms", goal=Goal(15)),
    Row(name="Contact ID, last byte → station's commit, p99", unit="ms", goal=Goal(100)),
)
_CONTACT = (
    Row(name="contact, end of qualification → station's commit, p50", unit="ms", goal=Goal(15)),
    Row(name="contact, end of qualification → station's commit, p99", unit="ms", goal=Goal(100)),
)
_FIRST_SCAN = Row(name="gateway start → first scan", unit="s", goal=Goal(2))
_POLL_MEMORY = Row(name="resident memory, 64 points in 8 units over TCP", unit="MB", goal=Goal(60))
_POLL_CORE = Row(name="processor, the same load", unit="% of a core", goal=Goal(5))
_CATCHUP = Row(
    name="outage catch-up, durable at both ends, CURVE, loopback",
    unit="ev/s",
    goal=Goal(100_000, least=True),
)
_RATIO = Row(name="the same, of the best peer", unit="times", goal=Goal(3, least=True))
_DRAIN_MEMORY = Row(
    name="resident memory of the gateway at its highest, while it drains",
    unit="MB",
    goal=Goal(64),
)
_LONG_WAY = Row(
    name="catch-up at a round trip of 200 ms", unit="ev/s", goal=Goal(20_000, least=True)
)
_SLOW_LINE = Row(
    name="catch-up over 256 kbit/s with 1 % loss: compressed events in the line's bits",
    unit="%",
    goal=Goal(80, least=True),
)
_ALARM_LOOPBACK = Row(name="alarm while a backlog drains, loopback, p99", unit="ms", goal=Goal(50))
_ALARM_SLOW = Row(
    name="alarm while a backlog drains, 256 kbit/s with 1 % loss, p99",
    unit="ms",
    goal=Goal(1000),
)
_APPEND_ONE = Row(
    name="durable append, one task awaiting each", unit="times a raw commit", goal=Goal(1.3)
)
_APPEND_MANY = Row(
    name=f"durable append, {TASKS} tasks", unit="ev/s", goal=Goal(20_000, least=True)
)
_ALARM_WRITES = Row(
    name="written for a single durable alarm, with checkpoint and acknowledgement",
    unit="KiB",
    goal=Goal(8),
)
_IDLE_WRITES = Row(name="written while idle", unit="MiB a day", goal=Goal(1))
_IDLE_FIRST = Row(name="sent and received while idle, the path that carries", unit="MiB a day")
_IDLE_SECOND = Row(
    name="sent and received while idle, a metered path that stands by", unit="MiB a day"
)
_IDLE_CORE = Row(name="processor of an idle gateway", unit="% of a core")
_MEMORY = Row(name="resident memory of the gateway with a backlog", unit="MB", goal=Goal(64))
_MEMORY_GROWTH = Row(name="what the backlog adds to it", unit="MB")
_START_FULL = Row(name="gateway start → contacts watched, with a backlog", unit="s")
_THOUSAND_RATE = Row(
    name="one station, 1,000 gateways: durable", unit="ev/s", goal=Goal(10_000, least=True)
)
_THOUSAND_ALARM = Row(name="one station, 1,000 gateways: alarm p99", unit="ms", goal=Goal(500))
_THOUSAND_IDLE = Row(
    name="one station, 1,000 gateways: processor while idle", unit="% of a core", goal=Goal(15)
)

PARTS: dict[str, Part] = {
    "latency": Part(rows=(*_RECEIVER, *_CONTACT), run=_latencies, limit_s=150),
    "start": Part(rows=(_FIRST_SCAN,), run=_start, limit_s=90),
    "polling": Part(rows=(_POLL_MEMORY, _POLL_CORE), run=_polling, limit_s=180),
    "catchup": Part(rows=(_CATCHUP, _RATIO, _DRAIN_MEMORY), run=_catchup, limit_s=600),
    "long-way": Part(rows=(_LONG_WAY,), run=_long_way, limit_s=240, own_network=True),
    "slow-line": Part(
        rows=(_SLOW_LINE, _ALARM_SLOW), run=_slow_line, limit_s=300, own_network=True
    ),
    "alarms": Part(rows=(_ALARM_LOOPBACK,), run=_alarms, limit_s=240),
    "append": Part(rows=(_APPEND_ONE, _APPEND_MANY), run=_append, limit_s=180),
    "alarm-writes": Part(rows=(_ALARM_WRITES,), run=_alarm_writes, limit_s=180),
    "idle": Part(
        rows=(_IDLE_WRITES, _IDLE_FIRST, _IDLE_SECOND, _IDLE_CORE),
        run=_idle,
        limit_s=260,
        own_network=True,
    ),
    "memory": Part(rows=(_MEMORY, _MEMORY_GROWTH, _START_FULL), run=_memory, limit_s=150),
    "thousand": Part(
        rows=(_THOUSAND_RATE, _THOUSAND_ALARM, _THOUSAND_IDLE), run=_thousand, limit_s=240
    ),
}
