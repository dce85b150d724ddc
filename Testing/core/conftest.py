from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def start():
    """Starts worker hosts around a stand-in for ``register``; closes them at the end and sees that they end."""
    from worker_host import Host

    hosts: list[Host] = []

    def begin(register) -> Host:
        hosts.append(Host(register))
        assert hosts[-1].next()["event"] == "ready"
        return hosts[-1]

    yield begin
    for host in hosts:
        host.close()
        assert not host.thread.is_alive()
