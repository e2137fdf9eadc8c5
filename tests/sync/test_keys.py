import os
import stat
from pathlib import Path

import pytest

from events.errors import ConfigError
from sync.keys import is_key, keygen, public_of, read_public, read_secret


def test_a_pair_is_written_so_that_only_its_owner_reads_the_secret(tmp_path: Path) -> None:
    secret, public = keygen(tmp_path / "keys", "gw-1")
    assert (secret.name, public.name) == ("gw-1.key", "gw-1.pub")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert public_of(read_secret(secret)) == read_public(public)
    assert [len(path.read_text().splitlines()) for path in (secret, public)] == [1, 1]


def test_a_pair_is_never_overwritten(tmp_path: Path) -> None:
    secret, public = keygen(tmp_path, "gw-1")
    before = secret.read_bytes(), public.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        keygen(tmp_path, "gw-1")
    assert (secret.read_bytes(), public.read_bytes()) == before


@pytest.mark.parametrize("name", ["", "../gw", "GW 1", "a/b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        keygen(tmp_path, name)


def test_a_secret_that_others_may_read_is_refused_with_the_command_that_helps(
    tmp_path: Path,
) -> None:
    secret, _ = keygen(tmp_path, "gw-1")
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="0640") as caught:
        read_secret(secret)
    assert caught.value.hint == f"run: chmod 600 {secret}"


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40, b"a" * 39, b"a" * 5000])
def test_what_is_not_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gw.pub"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="40 Z85") as caught:
        read_public(path)
    assert caught.value.hint


def test_a_missing_or_unreadable_file_says_what_to_do(tmp_path: Path) -> None:
    for path in (tmp_path / "none.key", tmp_path):
        with pytest.raises(ConfigError) as caught:
            read_secret(path)
        assert caught.value.hint
        assert str(path) in str(caught.value)


def test_the_form_of_a_key_is_forty_characters_of_z85() -> None:
    assert is_key("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")  # RFC 32's alphabet
    assert not is_key("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf~")
    assert not is_key("x" * 41)


@pytest.mark.parametrize("place", ["a pipe", "a folder"])
def test_what_is_no_file_is_refused_and_holds_nobody(tmp_path: Path, place: str) -> None:
    path = tmp_path / "place.pub"
    if place == "a pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(ConfigError, match="40 Z85"):
        read_public(path)
