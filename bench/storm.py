"""Clients that all come back at once to a gateway that has begun anew; scripts/bench storm calls this
after the build.

All clients of a gateway behind net_memif connect, some at a time. Then it ends, and another process
takes its place, which knows of none of them. A few are served first, whose packets go to and fro at
a steady rate, many at a time, so that a burst is as large before the storm as in it. Then all the
others come back, at once: a handshake and the lease that each had. No more than one core is in their
way, on which their own part is done as well, the control thread's: so they come faster than it can
answer, are asked for cookies, and try again as a real client does, five seconds later.

What the packets of the first ones notice is counted: losses, and the worker's cycles a packet. What
these are more than before goes to those who come, and is told for each of them: so much less time a
worker has for packets when clients come as fast as they should. What a client costs the control
thread, and each handshake thread, is that thread's own processor time, whoever else runs on the
machine. All this until the last client has come: what they cost afterwards, their heartbeats and
the next handshake two minutes later, is no part of it.
"""

import sys

from crowd import (
    RATE_MPPS, RESTART, THERE, cycles_a_packet, packets, refusals, reordered, run_command,
    run_trials)
from goals import Goals

STEADY_SECONDS = 5
CLIENTS_A_SECOND_MIN = 500  # fewer, and the storm is not waited for
RETRY_SECONDS = 5  # after which a client that was asked for a cookie comes again
FIRST_CONNECTING = 96  # at a time, when the gateway serves nobody yet
BURST = 32
A_SECOND_GOAL = 5000  # of the busiest control thread's core
LOSS_GOAL = 0.001
WORKER_GOAL = 0.05  # of the worker's core, when clients come at that rate


class Coming:
    """A trial in which clients came, and what each cost the control threads; `calm_s` of its time a
    second the control thread needs without them."""

    def __init__(self, trial, calm_s):
        self.connected = trial["connected"]
        self.seconds = trial["connecting_seconds"]
        self.a_second = self.connected / max(self.seconds, 1e-9)
        self.within_s = trial["connecting_s"]
        used = trial["threads"].used(self.seconds)
        used["control"] -= calm_s * self.seconds
        self.thread_us = {name: its_s / max(self.connected, 1) * 1e6
                          for name, its_s in sorted(used.items())}
        self.control_a_second = 1e6 / max(self.thread_us.values())

    def row(self):
        return {"connected": self.connected, "seconds": self.seconds, "a_second": self.a_second,
                "within_s": self.within_s, "thread_us_each": self.thread_us,
                "control_us_each": self.thread_us["control"]}


def measure(options):
    seconds = options.clients / CLIENTS_A_SECOND_MIN + 3 * RETRY_SECONDS
    load = {"rate_mpps": RATE_MPPS, "burst": BURST}
    all_come = load | {"seconds": seconds, "storm": True, "until_connected": True}
    first_trial, restart, calm, storm = run_trials("storm", options.protection, THERE, [
        all_come | {"connecting": FIRST_CONNECTING}, RESTART, load | {"seconds": STEADY_SECONDS},
        all_come | {"connecting": options.clients}],
        coming=options.clients, control_threads=options.control_threads)
    calm_s = calm["gateway"]["control_s"] / calm["seconds"]
    first, back = Coming(first_trial, calm_s), Coming(storm, calm_s)
    became = refusals(storm["before"], storm["after"])
    before, during = (cycles_a_packet(trial["gateway"]) for trial in (calm, storm))
    worker_each = (during - before) * packets(storm["gateway"]) / max(back.connected, 1)
    worker_share = worker_each * A_SECOND_GOAL / storm["tsc_hz"]
    memory = storm["after"]
    row = {"clients": options.clients, "restart_s": restart["seconds"], "first": first.row(),
           "loss_calm": calm["loss"], "loss_storm": storm["loss"],
           "reordered": reordered(storm), "cycles_calm": before, "cycles_storm": during,
           "worker_cycles_each": worker_each, "refusals": became,
           "rss_mib": memory.resident_mib, "hugepages_mib": memory.hugepages_mib} | back.row()
    goals = Goals()
    print(f"first connections, {FIRST_CONNECTING} at a time: {first.connected} in "
          f"{first.seconds:.1f} s, {first.a_second:.0f} a second; control "
          f"{first.thread_us['control']:.0f} us of its own time a client")
    print(f"the gateway began anew, and answered after {restart['seconds']:.1f} s")
    print(f"{back.connected} of {options.clients} clients had come back with tunnel and lease "
          f"{goals.judge('all', back.connected == options.clients)} after {back.seconds:.1f} s: "
          f"{back.a_second:.0f} a second, their own part on the control thread's core; half of "
          f"them {back.within_s['p50']:.1f} s after their first packet, the last "
          f"{back.within_s['max']:.1f} s")
    for name, us in back.thread_us.items():
        print(f"{name}: {us:.0f} us of its own time a client")
    print(f"the busiest of these threads on a core of its own: {back.control_a_second:.0f} a second "
          f"{goals.judge(A_SECOND_GOAL, back.control_a_second >= A_SECOND_GOAL)}")
    print("what became of handshakes: " +
          ", ".join(f"{count} {name}" for name, count in sorted(became.items())))
    print(f"packets of {THERE} others, lost: {row['loss_calm']:.4%} before, "
          f"{row['loss_storm']:.4%} meanwhile "
          f"{goals.judge(f'{LOSS_GOAL:.1%}', row['loss_storm'] <= LOSS_GOAL)}; out of order: "
          f"{row['reordered']} {goals.judge(0, row['reordered'] == 0)}")
    print(f"the worker's cycles a packet: {before:.0f} before, {during:.0f} meanwhile, with what the "
          f"storm's own packets take: {worker_each:,.0f} cycles a client, {worker_share:.1%} of its "
          f"core at {A_SECOND_GOAL} clients a second "
          f"{goals.judge(f'{WORKER_GOAL:.0%}', worker_share <= WORKER_GOAL)}")
    print(f"memory: {row['rss_mib']} MiB resident and {row['hugepages_mib']} MiB of hugepages")
    return row, goals


if __name__ == "__main__":
    sys.exit(run_command("storm", __doc__, sys.argv[1:],
                         [("--clients", {"type": int, "default": 10_000}),
                          ("--control-threads", {"type": int, "default": 1,
                                                 "help": "as control.threads has it"})], measure))
