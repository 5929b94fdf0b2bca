"""Clients that all come at once; scripts/bench storm calls this after the build.

A gateway behind net_memif serves a few clients, whose packets go to and fro at a steady rate, many
at a time, so that a burst is as large before the storm as in it. Then all the others connect, as
fast as the gateway lets them: a handshake and a lease each. What the packets of the first ones
notice is counted: losses, and the worker's cycles a packet. What these are more than before goes to
those who come, and is told for each of them: so much less time a worker has for packets when
clients come as fast as they should. What a client costs the control thread, and each handshake
thread, is that thread's own processor time, whoever else runs on the machine. All this until the
last client has come: what they cost afterwards, their heartbeats and the next handshake two minutes
later, is no part of it.
"""

import sys

from crowd import RATE_MPPS, THERE, cycles_a_packet, packets, run_command, run_trials
from goals import against

STEADY_SECONDS = 5
CLIENTS_A_SECOND_MIN = 500  # fewer, and the storm is not waited for
CONNECTING = 96
BURST = 32
A_SECOND_GOAL = 5000  # of the busiest control thread's core
LOSS_GOAL = 0.001
WORKER_GOAL = 0.05  # of the worker's core, when clients come at that rate


def measure(options):
    seconds = options.clients / CLIENTS_A_SECOND_MIN + 5
    calm, storm = run_trials("storm", options.protection, THERE, [
        {"rate_mpps": RATE_MPPS, "burst": BURST, "seconds": STEADY_SECONDS},
        {"rate_mpps": RATE_MPPS, "burst": BURST, "seconds": seconds, "storm": True,
         "until_connected": True}],
        coming=options.clients, connecting=CONNECTING, control_threads=options.control_threads)
    came = storm["connected"]
    thread_s = storm["threads"].used(storm["connecting_seconds"])
    idle_s = calm["gateway"]["control_s"] / calm["seconds"] * storm["connecting_seconds"]
    each_us = {name: (its_s - (idle_s if name == "control" else 0)) / max(came, 1) * 1e6
               for name, its_s in sorted(thread_s.items())}
    before, during = (cycles_a_packet(trial["gateway"]) for trial in (calm, storm))
    worker_each = (during - before) * packets(storm["gateway"]) / max(came, 1)
    worker_share = worker_each * A_SECOND_GOAL / storm["tsc_hz"]
    row = {"clients": options.clients, "connected": came, "seconds": storm["connecting_seconds"],
           "a_second": came / max(storm["connecting_seconds"], 1e-9),
           "control_us_each": each_us["control"], "thread_us_each": each_us,
           "loss_calm": calm["loss"], "loss_storm": storm["loss"],
           "cycles_calm": before, "cycles_storm": during, "worker_cycles_each": worker_each,
           "rss_mib": storm["after"].resident_mib,
           "cookies_sent": storm["after"].status["control"]["cookies_sent"]}
    print(f"{came} of {options.clients} clients had their tunnel and lease "
          f"{against('all', came == options.clients)} after {row['seconds']:.1f} s: "
          f"{row['a_second']:.0f} a second, the clients on the control thread's core")
    for name, us in each_us.items():
        print(f"{name}: {us:.0f} us of its own time a client")
    a_second = 1e6 / max(each_us.values())
    print(f"the busiest of these threads on a core of its own: {a_second:.0f} a second "
          f"{against(A_SECOND_GOAL, a_second >= A_SECOND_GOAL)}")
    print(f"packets of {THERE} others, lost: {row['loss_calm']:.4%} before, "
          f"{row['loss_storm']:.4%} meanwhile "
          f"{against(f'{LOSS_GOAL:.1%}', row['loss_storm'] <= LOSS_GOAL)}")
    print(f"the worker's cycles a packet: {before:.0f} before, {during:.0f} meanwhile, with what the "
          f"storm's own packets take: {worker_each:,.0f} cycles a client, {worker_share:.1%} of its "
          f"core at {A_SECOND_GOAL} clients a second "
          f"{against(f'{WORKER_GOAL:.0%}', worker_share <= WORKER_GOAL)}")
    print(f"resident memory: {row['rss_mib']} MiB")
    return row, came == options.clients


if __name__ == "__main__":
    sys.exit(run_command("storm", __doc__, sys.argv[1:],
                         [("--clients", {"type": int, "default": 10_000}),
                          ("--control-threads", {"type": int, "default": 1,
                                                 "help": "as control.threads has it"})], measure))
