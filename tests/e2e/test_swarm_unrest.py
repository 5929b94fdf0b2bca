"""Clients of bench/swarm that do not stay: some move to another address and port, some are gone without
a word and come back by a new handshake. Nothing is lost but what was in flight to where, or to what,
they were before, and no byte is wrong."""

import pytest
from memif import make_gateway, start_swarm

pytestmark = pytest.mark.alone

CLIENTS = 8
SECONDS = 5
ROAM, CHURN = 3, 2  # a second
# So slow that the queues hold what comes while a busy machine runs something else.
RATE_MPPS = 0.002
# A handshake and a lease are done in milliseconds; of the first handshake packet none may be lost.
BACK_WITHIN_S = 2


@pytest.mark.parametrize("protection", ["plain", "aes-256-gcm"])
def test_only_what_was_in_flight_is_lost(world, protection):
    gateway = make_gateway(world, protection, CLIENTS)
    gateway.start()
    swarm = start_swarm(gateway, CLIENTS)
    try:
        trial = swarm.trial(seconds=SECONDS, rate_mpps=RATE_MPPS, inner_bytes=[64, 67, 200],
                            roam=ROAM, churn=CHURN)
        gateway.check_conservation()
        counters = gateway.counters()
        control = gateway.status()["control"]
        log = swarm.log()
        assert gateway.stop() == 0
    finally:
        swarm.stop()
    roaming, churn = trial["roaming"], trial["churn"]
    print(f"\n{roaming}, {churn}; back within {trial['connecting_s']['max']:.3f} s (bound "
          f"{BACK_WITHIN_S} s)")
    assert trial["wrong"] == 0, trial["first_wrong"]
    assert trial["lost"] == 0
    assert trial["outbound"]["received"] > 1000 < trial["inbound"]["received"]
    # Each move and each new beginning has been seen at the gateway, and no other.
    assert roaming["roamed"] == counters["roamed"] >= ROAM * SECONDS // 2
    assert churn["left"] == churn["returned"] >= CHURN * SECONDS // 2
    assert control["handshakes_accepted"] == CLIENTS + churn["left"]
    assert trial["connecting_s"]["max"] < BACK_WITHIN_S
    # The gateway went on sending to those who were gone, and they sent nothing.
    assert churn["lost"] > 0 < churn["unsent"]
    # What was on its way when a client moved: a moment's packets of one of so many clients.
    assert roaming["lost"] < roaming["roamed"] * RATE_MPPS * 1e6 / 2 / CLIENTS
    assert "clients roamed, " in log and "left and " in log
