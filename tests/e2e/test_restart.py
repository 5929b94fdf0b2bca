"""A gateway that dies and comes back, with the timers that everybody has."""

import signal

from conftest import start_client, start_gateway
from lab.netns import wait_until


def test_client_is_back_with_its_address_before_it_has_aged_out(world):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    address = client.status()["address"]

    def passes():
        return world.pc.run("ping", "-c1", "-W1", "40.1.1.10", check=False).returncode == 0

    wait_until(passes, 5, "the first ping")
    gateway.process.stop(signal.SIGKILL)
    gateway.start()
    # 15 s without an answer, a handshake, the address again: far below dead_after, which is 75 s.
    wait_until(passes, 40, "a ping after the restart")
    assert client.status()["address"] == address
    assert gateway.tunnel("pc")["address"] == address.split("/")[0]
