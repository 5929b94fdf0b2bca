"""Further control threads, which do the cryptography of handshakes, in the real process."""

import os
import pathlib
import re
import time

import pytest
from conftest import start_client, start_gateway
from lab import topology
from lab.netns import wait_until
from lab.programs import Client
from lab.stall import stalled, threads

pytestmark = pytest.mark.alone

IDLE_S = 2
IDLE_SHARE_MAX = 0.01
RECOVERY_S = 8  # a client asks again every five seconds and a third


def three_threads(config):
    config["control"]["threads"] = 3


def handshake_threads(gateway):
    """{name: thread id}"""
    return {name: thread for name, thread in threads(gateway.process.pid).items()
            if name.startswith("handshakes-")}


def cores_of(gateway, thread):
    status = pathlib.Path(f"/proc/{gateway.process.pid}/task/{thread}/status").read_text()
    return re.search(r"Cpus_allowed_list:\s+(\S+)", status)[1]


def processor_seconds(gateway, thread):
    path = pathlib.Path(f"/proc/{gateway.process.pid}/task/{thread}/schedstat")
    return int(path.read_text().split()[0]) / 1e9


def test_they_do_the_handshakes_and_sleep_otherwise(world):
    gateway = start_gateway(world, clients=("pc", "pc2"), change=three_threads)
    mine = handshake_threads(gateway)
    assert set(mine) == {"handshakes-1", "handshakes-2"}
    start_client(gateway, world.pc)
    start_client(gateway, world.add_pc("pc2", "10.2.1.10"), "pc2")
    control = gateway.status()["control"]
    assert len(control["handshake_threads"]) == 2
    assert sum(control["handshake_threads"]) == 2 * control["handshakes_accepted"] >= 4
    world.pc.run("ping", "-c1", "-W2", topology.SERVER)
    before = {name: processor_seconds(gateway, thread) for name, thread in mine.items()}
    time.sleep(IDLE_S)  # what is measured is that nothing happens
    for name, thread in mine.items():
        share = (processor_seconds(gateway, thread) - before[name]) / IDLE_S
        print(f"{name}: {share:.2%} of a core without handshakes (bound {IDLE_SHARE_MAX:.0%})")
        assert share < IDLE_SHARE_MAX
    gateway.check_conservation()
    assert gateway.stop() == 0


def test_they_run_where_the_configuration_says(world):
    first, *_, last = sorted(os.sched_getaffinity(0))

    def there(config):
        # The worker, whose core nobody names, is there as well: two cores are all there may be.
        config["eal"] = {**config["eal"], "main_core": first}
        config["eal"].pop("worker_cores", None)
        config["control"] |= {"threads": 2, "cores": [last]}

    gateway = start_gateway(world, change=there)
    assert [cores_of(gateway, thread) for thread in handshake_threads(gateway).values()] == [
        str(last)]
    start_client(gateway, world.pc)
    assert gateway.stop() == 0
    # And where nobody says anything: on no worker's core.
    del gateway.config["control"]["cores"]
    gateway.start()
    (cores,) = [cores_of(gateway, thread) for thread in handshake_threads(gateway).values()]
    assert str(last) not in re.split("[,-]", cores), cores
    assert gateway.stop() == 0


def test_while_they_stand_still_packets_go_on_and_newcomers_wait(world):
    gateway = start_gateway(world, clients=("pc", "pc2"), change=three_threads)
    start_client(gateway, world.pc)
    first, second = handshake_threads(gateway).values()
    newcomer = Client(world.add_pc("pc2", "10.2.1.10"), gateway.keys, "pc2",
                      gateway.config["tunnel"]["protections"])
    accepted = gateway.status()["control"]["handshakes_accepted"]
    with stalled(first), stalled(second):
        newcomer.start()
        wait_until(lambda: gateway.status()["control"]["handshakes_under_way"] > 0, 5,
                   "its first handshake")
        world.pc.run("ping", "-c20", "-i0.05", "-W1", topology.SERVER)
        assert gateway.status()["control"]["handshakes_accepted"] == accepted
        assert not newcomer.is_up()
    freed = time.monotonic()
    newcomer.wait_until_up(RECOVERY_S)
    print(f"handshake threads stood still: a client came in {time.monotonic() - freed:.2f} s after "
          f"(bound {RECOVERY_S} s)")
    assert gateway.stop() == 0
