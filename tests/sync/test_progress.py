"""What the station keeps in memory of one gateway's logs, and what it may forget."""

from events.chain import genesis
from events.replication import LogHead
from sync.progress import LOGS_KEPT_MAX
from tests.sync.sink_rig import Station


def volatile(number: int) -> LogHead:
    log_id = f"memory-{number}"
    return LogHead(log_id=log_id, first=1, head=0, chain=genesis(log_id), volatile=True)


def test_a_log_that_is_still_offered_is_never_forgotten() -> None:
    station = Station()
    fetch = station.open()[0]
    station.hear(station.batch(fetch, *station.entries(1, 2, 3)))
    held = station.progress.logs["disk"]
    for number in range(2 * LOGS_KEPT_MAX):
        station.hear(station.hello(logs=(station.one.head(), volatile(number))))
    assert station.progress.logs["disk"] is held
    assert len(station.progress.logs) == LOGS_KEPT_MAX


def test_a_connection_that_begins_while_logs_come_and_go_reads_all_that_it_offers() -> None:
    station = Station()
    station.open()
    for number in range(LOGS_KEPT_MAX - 1):
        station.hear(station.hello(logs=(station.one.head(), volatile(number))))
    station.begin()
    fetches = station.hear(station.hello(logs=(station.one.head(), volatile(LOGS_KEPT_MAX))))[1:]
    assert {fetch.log_id for fetch in fetches} == {"disk", f"memory-{LOGS_KEPT_MAX}"}
