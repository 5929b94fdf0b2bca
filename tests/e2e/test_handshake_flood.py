"""A flood of forged handshakes while clients connect: they get in all the same, by cookies, and
whoever forges with a cookie of his own is limited. bench/swarm is both: the clients, and the flood."""

import pytest
from memif import make_gateway, start_swarm

pytestmark = pytest.mark.alone

THERE = 2    # clients whose packets go to and fro
COMING = 12  # clients that come amid the flood
FLOOD_MPPS = 0.1  # what the control thread can look at even where others use its core
FLOOD_A_SECOND_MIN = FLOOD_MPPS * 1e6 / 2  # of that, what a busy machine has to make
PER_SECOND, BURST = 20, 5
# The first initiation is answered by a cookie; the next, five seconds and a third later at most,
# carries it. Two of them may be lost where the machine is busy.
IN_WITHIN_S = 17
# Before the gateway has noticed that it is flooded, and in a second without one afterwards.
UNNOTICED_MAX = 1000


@pytest.mark.parametrize("control_threads", [1, 3])
def test_clients_come_in_through_a_flood_of_forged_handshakes(world, control_threads):
    gateway = make_gateway(world, "aes-256-gcm", THERE + COMING)
    gateway.config["tunnel"] |= {"handshakes_per_second": PER_SECOND, "handshakes_burst": BURST}
    gateway.config["control"]["threads"] = control_threads
    gateway.start()
    swarm = start_swarm(gateway, THERE + COMING, "--holding-back", COMING)
    try:
        flood = {"rate_mpps": 0.002, "inner_bytes": [64], "flood_mpps": FLOOD_MPPS}
        swarm.trial(seconds=2, **flood)  # until all know that there is a flood
        trial = swarm.trial(seconds=IN_WITHIN_S, storm=True, **flood)
        gateway.check_conservation()
        control = gateway.status()["control"]
        dropped = gateway.counters()
        assert gateway.stop() == 0
    finally:
        swarm.stop()
    flood = trial["flood"]
    print(f"\n{flood['sent'] / trial['seconds']:.0f} forged handshakes a second; "
          f"{trial['connected']} of {COMING} clients in after "
          f"{trial['connecting_seconds']:.1f} s (bound {IN_WITHIN_S} s); {control}, "
          f"{dropped['handshake_ring_full']} found the ring full")
    assert trial["wrong"] == 0, trial["first_wrong"]
    assert flood["sent"] / trial["seconds"] >= FLOOD_A_SECOND_MIN, "that is no flood"
    assert trial["connected"] == COMING
    # Each kind of forgery is refused under its name, and those with a cookie by their source.
    rejected = control["handshakes_rejected"]
    assert rejected["bad_mac"] > UNNOTICED_MAX
    assert control["cookies_sent"] > UNNOTICED_MAX
    assert control["handshakes_limited"] > UNNOTICED_MAX
    allowed = UNNOTICED_MAX + BURST + PER_SECOND * (IN_WITHIN_S + 3)
    assert rejected["not_authentic"] + rejected.get("replayed", 0) <= allowed
