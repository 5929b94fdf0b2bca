"""The worked example, shown: scripts/demo runs this after set-up and build.

Each step says what it shows, and the first that does not show it ends the demo with exit status 1
and the programs' logs. Whatever happens, nothing is left behind.
"""

import argparse
import hashlib
import json
import os
import pathlib
import signal
import sys
import time

from lab import hops, topology
from lab.netns import Lab, LabError, wait_until
from lab.programs import Client, Gateway, make_keys
from lab.topology import SERVER, SERVER_PORT, WorkedExample

FILE_BYTES = 100 * 1024 * 1024
PYTHON = "/usr/bin/python3"
UDP = pathlib.Path(__file__).parent / "lab" / "udp.py"
URL = f"http://{SERVER}:{SERVER_PORT}"


def step(title):
    print(f"\n── {title}", flush=True)


def require(condition, failure):
    if not condition:
        raise LabError(failure)


def make_file(path):
    """FILE_BYTES that do not compress, and their sha256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(FILE_BYTES // (1 << 20)):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def start_servers(world):
    """A web server and a UDP echo on 40.1.1.10:6600, and iperf3."""
    www = world.lab.directory / "www"
    www.mkdir()
    sha256 = make_file(www / "file")
    world.server.start(PYTHON, "-m", "http.server", SERVER_PORT, "--bind", SERVER,
                       "--directory", www, name="http-server")
    wait_until(lambda: world.internet.succeeds("curl", "-sf", "-o/dev/null", "-m2", f"{URL}/"), 10,
               "the web server to answer the internet")
    world.server.start(PYTHON, UDP, "echo", SERVER, SERVER_PORT,
                       name="udp-echo").wait_for_log("ready")
    iperf3 = world.server.start("iperf3", "--server", "--forceflush")
    iperf3.wait_for_log("listening")
    return sha256


def show_nothing_passes(world):
    step("Without the tunnel nothing passes natfw")
    require(world.internet.succeeds("curl", "-sf", "-o/dev/null", "-m3", f"{URL}/"),
            "the web server does not answer the internet")
    print("the web server answers the internet")
    require(not world.pc.succeeds("ping", "-c2", "-i0.2", "-W1", SERVER), "pc can ping the server")
    print(f"pc: ping {SERVER}: no answer")
    require(not world.pc.succeeds("curl", "-sf", "-o/dev/null", "-m2", f"{URL}/"),
            "pc can reach the web server")
    print(f"pc: curl {URL}/: no answer")


def start_tunnel(world, protection):
    step(f"Tunnel up ({protection})")
    keys = make_keys(world.lab, ["gateway", "pc"])
    gateway = Gateway(world, keys, subscribers=[{"name": "pc"}], protections=[protection])
    gateway.start()
    client = Client(world.pc, keys, "pc", protections=[protection])
    began = time.monotonic()
    client.start()
    client.wait_until_up()
    print(f"up after {time.monotonic() - began:.2f} s, counted from the client's start")
    print(world.pc.run("ip", "-brief", "address", "show", "adit0").stdout.strip())
    print(world.pc.run("ip", "route", "show", "dev", "adit0").stdout.strip())
    return gateway, client


def show_ping(world):
    step("Ping through the tunnel")
    print(world.pc.run("ping", "-c4", "-i0.25", "-W2", SERVER).stdout.strip())


def show_udp(world, gateway, protection):
    step("UDP both ways, captured at every hop")
    table = hops.Hops(world)
    print(world.pc.run(PYTHON, UDP, "ask", topology.INNER, topology.INNER_PORT,
                       SERVER, SERVER_PORT, hops.PAYLOAD_BYTES).stdout.strip())
    time.sleep(0.2)  # lets tcpdump write what the kernel has given it
    rows = table.rows()
    print(hops.as_text(rows))
    external_port = hops.external_port(rows)
    require(rows == hops.expected(protection, world.nat_address, external_port),
            "the table differs from the worked example's")
    internal = f"{topology.INNER}:{topology.INNER_PORT}"
    external = f"{world.nat_address}:{external_port}"
    entry = [mapping for mapping in gateway.mappings(gateway.tunnel("pc")["index"])
             if mapping["protocol"] == "udp" and mapping["internal"] == internal]
    require([mapping["external"] for mapping in entry] == [external],
            f"the gateway's NAT entry of {internal} is not what was captured: {entry}")
    print(f"\nthe gateway's NAT entry: (tunnel {entry[0]['tunnel']}, {internal}) ↔ {external}")


def show_download(world, sha256):
    step("curl of a 100 MB file")
    copy = world.lab.directory / "copy"
    print(world.pc.run("curl", "-sf", "-m40", "-o", copy, "-w",
                       "%{size_download} bytes in %{time_total} s", f"{URL}/file",
                       timeout_s=45).stdout)
    got = hashlib.sha256(copy.read_bytes()).hexdigest()
    print(f"sha256 at the server {sha256}\nsha256 at pc         {got}")
    require(got == sha256, "the sha256 sums differ")
    print("equal")


def show_iperf(world):
    step("iperf3, 3 s up and 3 s down")
    for direction, flags in (("up", []), ("down", ["--reverse"])):
        report = json.loads(world.pc.run("iperf3", "-c", SERVER, "-t3", "--json", *flags).stdout)
        rate = report["end"]["sum_received"]["bits_per_second"]
        require(rate > 1e6, f"iperf3 {direction}: {rate} bit/s")
        print(f"{direction:<5} {rate / 1e6:8.0f} Mbit/s")


def show_counters(gateway, client):
    step("Counters")
    print(client.status_text())
    print(gateway.status_text())


def hold(world):
    step("Held: Ctrl-C ends it and cleans up")
    for name, namespace in world.lab.namespaces.items():
        print(f"{name:<9} ip netns exec {namespace.full_name} bash")
    print(f"logs and configuration: {world.lab.directory}", flush=True)
    signal.pause()


def stop(gateway, client):
    step("Clean-up")
    require(client.stop() == 0, "the client ended badly")
    began = time.monotonic()
    require(gateway.stop() == 0, "the gateway ended badly")
    print(f"client and gateway ended; the gateway took {time.monotonic() - began:.2f} s")


def run(lab, options):
    world = WorkedExample(lab)
    sha256 = start_servers(world)
    show_nothing_passes(world)
    gateway, client = start_tunnel(world, options.protection)
    show_ping(world)
    show_udp(world, gateway, options.protection)
    show_download(world, sha256)
    show_iperf(world)
    show_counters(gateway, client)
    if options.hold:
        hold(world)
    stop(gateway, client)


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Runs the worked example.")
    parser.add_argument("--protection", default="aes-256-gcm",
                        choices=("plain", "aes-256-gcm", "chacha20-poly1305"))
    parser.add_argument("--hold", action="store_true",
                        help="leave everything up until Ctrl-C, to look around")
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("scripts/demo: run as root: it makes network namespaces")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    began = time.monotonic()
    with Lab("demo") as lab:
        try:
            run(lab, options)
        except LabError as error:
            print(f"\nscripts/demo: {error}\n{lab.logs()}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print()
            return 0 if options.hold else 130
    print(f"\nThe worked example ran end to end, in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
