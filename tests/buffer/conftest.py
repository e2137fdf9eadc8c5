import pytest

import buffer.recovery


@pytest.fixture
def quick_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once what the store tries again in seconds."""
    monkeypatch.setattr(buffer.recovery, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(buffer.recovery, "RETRY_MAX_S", 0.1)
