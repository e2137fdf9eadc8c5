import os
import threading
from pathlib import Path

import pytest
import zmq

from events.errors import ConfigError
from station import allow_list
from station.enrolment import SCAN_INTERVAL_S, Enrolment


def key() -> str:
    return zmq.curve_keypair()[0].decode()


def put(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.pub"
    file.write_text(text + "\n")
    return file


def test_files_that_come_change_and_go_are_noticed_by_the_next_scan(tmp_path: Path) -> None:
    enrolment = Enrolment(tmp_path)
    first, second = key(), key()
    assert enrolment.scan() is False
    file = put(tmp_path, "house-1", first)
    assert enrolment.scan() is True
    assert enrolment.scan() is False
    assert enrolment.name_of(first) == "house-1"
    put(tmp_path, "house-1", second)
    assert enrolment.scan() is True
    assert (enrolment.name_of(first), enrolment.name_of(second)) == (None, "house-1")
    file.unlink()
    assert enrolment.scan() is True
    assert dict(enrolment.names) == {}
    assert SCAN_INTERVAL_S <= 0.5


def test_a_bad_file_is_named_and_touches_no_other(tmp_path: Path) -> None:
    good = key()
    put(tmp_path, "house-1", good)
    put(tmp_path, "House 2", key())
    put(tmp_path, "house-3", "too short")
    put(tmp_path, "house-4", "x" * 100_000)
    (tmp_path / "house-5.pub").mkdir()
    (tmp_path / "house-6.pub").symlink_to(tmp_path / "nowhere")
    (tmp_path / "house-7.pub").write_bytes(b"\xff\x00" * 20)
    (tmp_path / "notes.txt").write_text("not a key")
    (tmp_path / ".house-8.pub").write_text(key())
    enrolment = Enrolment(tmp_path)
    enrolment.scan()
    assert dict(enrolment.names) == {"house-1": good}
    assert len(enrolment.warnings) == 6
    for name in ("House 2", "house-3", "house-4", "house-5", "house-6", "house-7"):
        assert any(name in warning for warning in enrolment.warnings)


def test_a_gateway_changes_its_key_with_both_taken_meanwhile(tmp_path: Path) -> None:
    old, new = key(), key()
    folder, next_file = tmp_path / "list", put(tmp_path, "next", new)
    put(folder, "house-1", old)
    enrolment = Enrolment(folder)
    allow_list.enroll(folder, "house-1", next_file, replace=False, beside=True)
    enrolment.scan()
    assert (enrolment.name_of(old), enrolment.name_of(new)) == ("house-1", "house-1")
    assert dict(enrolment.names) == {"house-1": old}
    assert enrolment.warnings == ()
    allow_list.enroll(folder, "house-1", next_file, replace=True)
    enrolment.scan()
    assert (enrolment.name_of(old), enrolment.name_of(new)) == (None, "house-1")
    assert dict(enrolment.names) == {"house-1": new}


def test_revoking_ends_the_next_key_too(tmp_path: Path) -> None:
    old, new = key(), key()
    folder = tmp_path / "list"
    put(folder, "house-1", old)
    allow_list.enroll(folder, "house-1", put(tmp_path, "n", new), replace=False, beside=True)
    allow_list.revoke(folder, "house-1")
    assert list(folder.iterdir()) == []
    put(folder, "house-2.next", new)
    enrolment = Enrolment(folder)
    enrolment.scan()
    assert enrolment.name_of(new) is None


def test_of_two_names_with_one_key_the_first_keeps_it(tmp_path: Path) -> None:
    shared = key()
    put(tmp_path, "house-2", shared)
    enrolment = Enrolment(tmp_path)
    enrolment.scan()
    put(tmp_path, "house-1", shared)
    assert enrolment.scan() is True
    assert enrolment.name_of(shared) == "house-2"
    assert enrolment.warnings == ("house-1 has the same key as house-2 and is ignored",)
    (tmp_path / "house-2.pub").unlink()
    enrolment.scan()
    assert enrolment.name_of(shared) == "house-1"
    assert not enrolment.warnings


def test_a_folder_that_vanishes_is_no_revocation(tmp_path: Path) -> None:
    folder = tmp_path / "gateways"
    good = key()
    put(folder, "house-1", good)
    enrolment = Enrolment(folder)
    enrolment.scan()
    folder.rename(tmp_path / "elsewhere")
    assert enrolment.scan() is True
    assert enrolment.name_of(good) == "house-1"
    assert "cannot be read" in enrolment.warnings[0]
    (tmp_path / "elsewhere").rename(folder)
    enrolment.scan()
    assert enrolment.warnings == ()


@pytest.mark.parametrize("damage", [b"", b"half a ke", bytes(40)])
def test_a_file_that_is_damaged_later_is_named_and_is_no_revocation(
    tmp_path: Path, damage: bytes
) -> None:
    good, next_one = key(), key()
    put(tmp_path, "house-1", good)
    (tmp_path / "house-1.class").write_text("20")
    enrolment = Enrolment(tmp_path)
    enrolment.scan()
    for name in ("house-1.pub", "house-1.class"):
        (tmp_path / name).write_bytes(damage)
    for _ in range(2):
        enrolment.scan()
        assert enrolment.names == {"house-1": good}
        assert enrolment.lost_after_s == {"house-1": 20.0}
        assert len(enrolment.warnings) == 2
    put(tmp_path, "house-1", next_one)
    enrolment.scan()
    assert enrolment.names == {"house-1": next_one}
    (tmp_path / "house-1.pub").write_bytes(damage)
    enrolment.scan()
    (tmp_path / "house-1.pub").unlink()
    enrolment.scan()
    assert enrolment.names == {}


def test_a_file_that_was_bad_for_a_moment_is_read_again(tmp_path: Path) -> None:
    good = key()
    (tmp_path / "house-1.pub").symlink_to(tmp_path / "mounted" / "key")
    enrolment = Enrolment(tmp_path)
    enrolment.scan()
    assert len(enrolment.warnings) == 1
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "key").write_text(good)
    enrolment.scan()
    assert enrolment.name_of(good) == "house-1"


def test_a_scan_never_sees_half_an_enrolment(tmp_path: Path) -> None:
    folder = tmp_path / "gateways"
    first, second = put(tmp_path, "a", key()), put(tmp_path, "b", key())
    allow_list.enroll(folder, "house-1", first, replace=False)
    done = threading.Event()

    def replacing() -> None:
        for turn in range(150):
            allow_list.enroll(folder, "house-1", (second, first)[turn % 2], replace=True)
        done.set()

    thread = threading.Thread(target=replacing)
    thread.start()
    enrolment = Enrolment(folder)
    scans = 0
    while not done.is_set() or scans == 0:
        enrolment.scan()
        scans += 1
        assert (enrolment.warnings, list(enrolment.names)) == ((), ["house-1"])
    thread.join()


def test_enrolling_twice_changes_nothing_and_another_key_needs_replace(tmp_path: Path) -> None:
    folder = tmp_path / "gateways"
    one, other = put(tmp_path, "one", key()), put(tmp_path, "other", key())
    first = allow_list.enroll(folder, "house-1", one, replace=False)
    assert (first.changed, first.what) == (True, "enrolled")
    assert allow_list.enroll(folder, "house-1", one, replace=False).changed is False
    with pytest.raises(ConfigError, match="another key") as refused:
        allow_list.enroll(folder, "house-1", other, replace=False)
    assert "--replace" in refused.value.hint
    replaced = allow_list.enroll(folder, "house-1", other, replace=True)
    assert replaced.fingerprint.replace(" ", "") == other.read_text().strip()
    assert os.listdir(folder) == ["house-1.pub"]  # noqa: PTH208 - drafts are hidden files


def test_one_key_under_two_names_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gateways"
    one = put(tmp_path, "one", key())
    allow_list.enroll(folder, "house-1", one, replace=False)
    with pytest.raises(ConfigError, match="already enrolled as house-1"):
        allow_list.enroll(folder, "house-2", one, replace=True)


@pytest.mark.parametrize(
    "name", ["", "House", "a/b", "../x", "a\n", "x" * 64, "häuser", ".hidden"]
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    one = put(tmp_path, "one", key())
    with pytest.raises(ConfigError, match="not a gateway's name"):
        allow_list.enroll(tmp_path / "gateways", name, one, replace=False)
    with pytest.raises(ConfigError, match="not a gateway's name"):
        allow_list.revoke(tmp_path / "gateways", name)


def test_a_secret_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    file = tmp_path / "house-1.key"
    file.write_text(key())
    with pytest.raises(ConfigError, match="secret key"):
        allow_list.enroll(tmp_path / "gateways", "house-1", file, replace=False)


def test_revoking_one_that_is_not_enrolled_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not enrolled"):
        allow_list.revoke(tmp_path, "house-1")


def test_a_class_is_declared_changed_and_withdrawn(tmp_path: Path) -> None:
    folder = tmp_path / "gateways"
    file = put(tmp_path, "house-1", key())
    enrolment = Enrolment(folder)
    allow_list.enroll(folder, "house-1", file, replace=False, lost_after_s=20.0)
    assert enrolment.scan() is True
    assert dict(enrolment.lost_after_s) == {"house-1": 20.0}
    allow_list.enroll(folder, "house-1", file, replace=False)  # says nothing of it
    assert enrolment.scan() is False
    again = allow_list.enroll(folder, "house-1", file, replace=False, lost_after_s=180.0)
    assert "lost after 180 s" in again.what
    assert enrolment.scan() is True
    assert dict(enrolment.lost_after_s) == {"house-1": 180.0}
    allow_list.revoke(folder, "house-1")
    enrolment.scan()
    assert (dict(enrolment.lost_after_s), list(folder.iterdir())) == ({}, [])


@pytest.mark.parametrize("text", ["", "soon", "4.9", "3601", "nan", "inf", "20 s", "9" * 200])
def test_a_class_that_is_none_is_named_and_leaves_the_gateway_enrolled(
    tmp_path: Path, text: str
) -> None:
    put(tmp_path, "house-1", key())
    (tmp_path / "house-1.class").write_text(text)
    enrolment = Enrolment(tmp_path)
    enrolment.scan()
    assert list(enrolment.names) == ["house-1"]
    assert dict(enrolment.lost_after_s) == {}
    assert len(enrolment.warnings) == 1
    assert "house-1.class" in enrolment.warnings[0]


@pytest.mark.parametrize("lost_after_s", [0.0, 4.9, 3601.0, float("nan")])
def test_a_class_out_of_range_is_refused_before_anything_is_written(
    tmp_path: Path, lost_after_s: float
) -> None:
    folder = tmp_path / "gateways"
    with pytest.raises(ConfigError):
        allow_list.enroll(
            folder, "house-1", put(tmp_path, "a", key()), replace=False, lost_after_s=lost_after_s
        )
    assert not folder.exists()
