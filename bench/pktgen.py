"""Drives the gateway with Pktgen-DPDK, where that is on the PATH; scripts/bench pktgen runs this
after set-up and build. bench/pktgen/README.md says what happens here, and how to do it on NICs."""

import argparse
import os
import pathlib
import re
import shutil
import signal
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True

from lab.netns import Lab, LabError  # noqa: E402
from wire import IMIX, choose_cores  # noqa: E402
from wire_rig import FLOWS_PER_CLIENT, PORT_KINDS, SWARM, Gateway, Hugepages, Ports  # noqa: E402

HUGEPAGES = 1024
SECONDS_MAX = 120  # a session ends after three minutes, and bringing up takes some of them
# A session outlives the swarm that made it.
LONELY = {"heartbeat": "1h", "dead_after": "1d"}


def run(options, cores, lab):
    namespace = lab.namespace("pktgen")
    ports = Ports(lab, namespace, PORT_KINDS["virtio_user"])
    gateway = Gateway(lab, namespace, ports, cores, options.clients, "plain", tunnel=LONELY)
    # Ours and Pktgen's must be the same, since the gateway asks only once in a while.
    devices = [f"{device},mac=02:00:00:00:00:0{n + 1}" for n, device in enumerate(ports.swarm)]
    sizes = ",".join(map(str, options.inner_bytes))
    namespace.run(SWARM, "--hugepages", "--core", cores.generator, "--clients", options.clients,
                  "--flows-per-client", FLOWS_PER_CLIENT, "--inner-bytes", sizes,
                  "--clients-port", devices[0], "--servers-port", devices[1],
                  *gateway.swarm_arguments("plain"), "--write-pcap", lab.directory, timeout_s=90)
    print(f"{options.clients * FLOWS_PER_CLIENT} flows", flush=True)
    core = cores.generator
    command = (
        f"exec setpriv --pdeathsig KILL pktgen --lcores 0@{core},1@{core} --main-lcore 0 "
        "--in-memory --single-file-segments "
        f"-m 640 --no-pci --no-telemetry --vdev {devices[0]} --vdev {devices[1]} -- -P -T "
        f"-m '1.0,1.1' -s 0:{lab.directory}/outbound.pcap -s 1:{lab.directory}/inbound.pcap "
        f"-f {ROOT}/bench/pktgen/flows.lua")
    before, drops = gateway.worker(), gateway.drops()
    pktgen = namespace.start(
        "env", f"ADIT_RATE={options.rate}", f"ADIT_SECONDS={options.seconds}", "TERM=dumb",
        "taskset", "-c", core, "script", "-qefc", command, "/dev/null", name="pktgen")
    pktgen.wait_for_log("adit port 1 sent", options.seconds + 60)
    counted = {name: count - before[name] for name, count in gateway.worker().items()}
    drops = {name: count - drops.get(name, 0) for name, count in gateway.drops().items()}
    pktgen.stop(signal.SIGINT, 2)
    show(options, counted, drops, pktgen.log())


def show(options, counted, drops, log):
    ports = {int(port): (int(sent), int(received)) for port, sent, received in
             re.findall(r"adit port (\d) sent (\d+) received (\d+)", log)}
    lines = [("outbound", ports[0][0], counted["outbound_packets"], ports[1][1]),
             ("inbound", ports[1][0], counted["inbound_packets"], ports[0][1])]
    print(f"{'':10}{'sent':>14}{'forwarded':>14}{'received':>14}{'Mpps':>8}")
    for name, sent, forwarded, received in lines:
        rate = forwarded / options.seconds / 1e6
        print(f"{name:10}{sent:14,}{forwarded:14,}{received:14,}{rate:8.2f}")
    packets = counted["outbound_packets"] + counted["inbound_packets"]
    if packets == 0:
        raise LabError(f"the gateway forwarded nothing: {counted}\n{log[-2000:]}")
    dropped = ", ".join(f"{name} {count:,}" for name, count in drops.items() if count)
    print(f"{counted['busy_cycles'] / packets:.0f} busy cycles a packet; dropped: "
          f"{dropped or 'nothing'}")


def sizes(text):
    return IMIX if text == "imix" else [int(word) for word in text.split(",")]


def parse_options():
    parser = argparse.ArgumentParser(prog="scripts/bench pktgen",
                                     description="Drives the gateway with Pktgen-DPDK.")
    parser.add_argument("--rate", type=float, default=10, metavar="PER_CENT",
                        help="of the link's speed, each direction (default: 10)")
    parser.add_argument("--seconds", type=int, default=5, metavar="N")
    parser.add_argument("--clients", type=int, default=63, metavar="N",
                        help=f"of {FLOWS_PER_CLIENT} flows each (default: 63)")
    parser.add_argument("--inner-bytes", type=sizes, default=[64], metavar="A,B|imix")
    parser.set_defaults(worker_core=None, generator_core=None)
    options = parser.parse_args()
    if not 1 <= options.seconds <= SECONDS_MAX or options.clients < 1:
        parser.error(f"--seconds 1 to {SECONDS_MAX}, --clients at least 1")
    return options


def main():
    options = parse_options()
    if shutil.which("pktgen") is None:
        sys.exit("scripts/bench pktgen: there is no pktgen on the PATH; bench/pktgen/README.md "
                 "says which one fits and how to build it")
    if os.getuid() != 0:
        sys.exit("scripts/bench pktgen: run as root: it makes a namespace and takes hugepages")
    cores = choose_cores(options)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        with Hugepages(HUGEPAGES), Lab("pktgen") as lab:
            try:
                run(options, cores, lab)
            except LabError as error:
                raise LabError(f"{error}\n{lab.logs()}") from None
    except LabError as error:
        sys.exit(f"scripts/bench pktgen: {error}")
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
