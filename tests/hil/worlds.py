"""Honest books of devices, and the ledger that a station makes of them."""

import random

import msgspec
from hypothesis import strategies as st

from events.calendar import rfc3339
from hil.account import Book, Row, Signal

GATEWAYS = ("building-1", "building-2")


def signal(point: str, qualifier: str, *, at: float, required: bool = True) -> Signal:
    return Signal(
        point=point,
        kind="alarm",
        subkind="panic",
        qualifier=qualifier,
        required=required,
        since_s=at,
    )


def book(gateway: str, point: str, signals: tuple[Signal, ...]) -> Book:
    finals = {}
    if signals and signals[-1].required:
        finals = {(point, "alarm", "panic"): signals[-1].qualifier == "new"}
    return Book(
        gateway=gateway,
        device=point,
        input="contact",
        points=frozenset({point}),
        signals=signals,
        finals=finals,
    )


@st.composite
def books(draw: st.DrawFn) -> list[Book]:
    made = []
    for gateway in GATEWAYS:
        for number in range(draw(st.integers(0, 3))):
            point = f"button-{number}"
            count = draw(st.integers(0, 6))
            made.append(
                book(
                    gateway,
                    point,
                    tuple(
                        signal(
                            point,
                            "restore" if index % 2 else "new",
                            at=1_800_000_000 + index,
                            required=draw(st.integers(0, 4)) > 0,
                        )
                        for index in range(count)
                    ),
                )
            )
    return made


def ledger(of: list[Book], draw: random.Random) -> list[Row]:
    """What an honest station holds: everything required, some of the rest, in any arrival order
    of the points, with the gateway's own words between."""
    rows: list[Row] = []
    for gateway in GATEWAYS:
        queues = [list(b.signals) for b in of if b.gateway == gateway]
        seq = 0
        while any(queues):
            queue = draw.choice([q for q in queues if q])
            said = queue.pop(0)
            if draw.random() < 0.2:
                seq += 1
                rows.append(row(gateway, seq, "gateway", "status", "started", "new", 1))
            if said.required or draw.random() < 0.5:
                seq += 1
                rows.append(
                    row(
                        gateway,
                        seq,
                        said.point,
                        said.kind,
                        said.subkind,
                        said.qualifier,
                        said.since_s,
                    )
                )
    return numbered(rows)


def row(
    gateway: str, seq: int, point: str, kind: str, subkind: str, qualifier: str, at: float
) -> Row:
    return Row(
        n=0,
        gateway=gateway,
        log_id=f"log-of-{gateway}",
        seq=seq,
        point=point,
        kind=kind,
        subkind=subkind,
        qualifier=qualifier,
        received_at=rfc3339(int((at + 0.005) * 1e6)),
    )


def numbered(rows: list[Row]) -> list[Row]:
    return [msgspec.structs.replace(row, n=number) for number, row in enumerate(rows, 1)]


def renumbered(rows: list[Row]) -> list[Row]:
    """The same rows as if nothing had been taken out: no gap gives the crime away."""
    counts: dict[str | None, int] = {}
    honest = []
    for each in rows:
        counts[each.gateway] = counts.get(each.gateway, 0) + 1
        honest.append(msgspec.structs.replace(each, seq=counts[each.gateway]))
    return numbered(honest)


def alarms(rows: list[Row]) -> list[int]:
    return [index for index, each in enumerate(rows) if each.kind == "alarm"]


def required_only(of: list[Book]) -> list[Book]:
    return [
        book(
            b.gateway,
            b.device,
            tuple(msgspec.structs.replace(s, required=True) for s in b.signals),
        )
        for b in of
    ]


worlds = st.tuples(books(), st.randoms(use_true_random=False))
