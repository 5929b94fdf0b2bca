"""What scripts/bench wire measures with: virtual ports, the program in the middle (adit-gateway, or
dpdk-testpmd in its place), and bench/swarm around it.

    swarm ─ clients' port ══ uplink ─ middle ─ public ══ servers' port ─ swarm

All of it runs in a network namespace of its own, which holds the interfaces of those ports that
have any, and is gone at the end.
"""

import dataclasses
import json
import os
import re
import select
import subprocess

from lab.netns import LabError, wait_until
from lab.programs import ADITCTL, BUILD, GATEWAY_PROGRAM, make_key, write_config

SWARM = BUILD / "bench" / "swarm"
TESTPMD = "dpdk-testpmd"
DESCRIPTORS = 2048
BURST = 64  # the gateway's own; testpmd is given the same
FLOWS_PER_CLIENT = 16
FIRST_BLOCK_PORTS = 64
# Subscribers whose first blocks an external address has room for (ports 1024 to 65535), and a
# margin, since each subscriber's address is drawn.
CLIENTS_AN_ADDRESS = 64_512 // FIRST_BLOCK_PORTS // 2
UP_WITHIN_S = 60
START_TRIES = 3


@dataclasses.dataclass(frozen=True)
class PortKind:
    """`middle` and `swarm` are EAL devices; {n} is 0 for the uplink and 1 for the public port,
    {path} a socket of that port, {near} and {far} the ends of its veth pair."""
    name: str
    middle: str
    swarm: str
    needs_veth: bool = False
    makes_interface: bool = False  # of the name {near}, where the swarm finds it
    max_mpps: float = 60


AF_PACKET = "net_af_packet{n},iface={near},blocksz=1048576,framesz=2048,framecnt=4096"
AF_PACKET_FAR = AF_PACKET.replace("{near}", "{far}")
PORT_KINDS = {kind.name: kind for kind in [
    PortKind("memif", "net_memif{n},role=server,socket={path},socket-abstract=no,rsize=11",
             "net_memif{n},role=client,socket={path},socket-abstract=no,rsize=11"),
    PortKind("virtio_user", "net_vhost{n},iface={path}",
             "net_virtio_user{n},path={path},queue_size=1024"),
    PortKind("af_packet", AF_PACKET, AF_PACKET_FAR, needs_veth=True, max_mpps=2),
    PortKind("af_xdp", "net_af_xdp{n},iface={near}", AF_PACKET_FAR, needs_veth=True, max_mpps=2),
    PortKind("tap", "net_tap{n},iface={near}", AF_PACKET, makes_interface=True, max_mpps=2),
]}


@dataclasses.dataclass(frozen=True)
class Cores:
    worker: int     # of the middle: nobody else's
    generator: int  # of the swarm
    control: int    # of the middle's main thread, which sleeps


class Ports:
    """The devices of a kind in this lab, for both sides of both ports."""

    def __init__(self, lab, namespace, kind):
        self.kind = kind
        self.namespace = namespace
        values = [{"n": n, "path": lab.directory / f"{name}.sock", "near": f"{name}0",
                   "far": f"{name}1"} for n, name in enumerate(("up", "out"))]
        self.middle = [kind.middle.format(**value) for value in values]
        self.swarm = [kind.swarm.format(**value) for value in values]
        self.interfaces = [value["near"] for value in values]
        for value in values if kind.needs_veth else []:
            lab.link(namespace, value["near"], namespace, value["far"])
            for end in (value["near"], value["far"]):
                namespace.no_offloads(end)

    def wait_for_interfaces(self):
        """Those that the middle's driver makes as it starts."""
        if not self.kind.makes_interface:
            return
        for interface in self.interfaces:
            wait_until(lambda: self.namespace.succeeds("ip", "link", "show", interface), 10,
                       f"the interface {interface}")
            self.namespace.ip("link", "set", interface, "up")


class Gateway:
    """adit-gateway, with as many subscribers as the swarm has clients."""

    def __init__(self, lab, namespace, ports, cores, clients, protection, tunnel=None,
                 control_threads=1):
        self.lab = lab
        self._namespace, self._ports, self._cores, self._clients = namespace, ports, cores, clients
        self.key = make_key(lab, "gateway")
        self.socket = lab.directory / "gateway.sock"
        subscribers = lab.directory / "subscribers.yaml"
        lab.host(SWARM, "--write-subscribers", subscribers, "--clients", str(clients),
                 timeout_s=120)
        addresses = clients // CLIENTS_AN_ADDRESS + 1
        self._path = write_config(lab, "gateway", {
            "eal": {"hugepages": "yes", "memory": f"{384 + 16 * addresses}M",
                    "main_core": cores.control, "worker_cores": [cores.worker],
                    "extra_args": ["--single-file-segments"]},
            "ports": [
                {"name": name, "device": device, "address": f"30.{n}.1.10/24",
                 "next_hop": f"30.{n}.1.1", "idle": "poll", "rx_descriptors": DESCRIPTORS,
                 "tx_descriptors": DESCRIPTORS}
                for n, (name, device) in enumerate(zip(("up", "out"), ports.middle), 1)],
            "uplink": "up",
            "public": "out",
            "tunnel": {"port": 8000, "private_key_file": str(self.key.private_file),
                       "protections": [protection], "max_tunnels": clients + 64} |
            (tunnel or {}),
            "pools": [{"name": "inner", "network": "10.0.0.0/12", "router": "10.0.0.1"}],
            "nat": {"external": [f"51.0.0.1-51.0.0.{addresses}"],
                    "blocks": {"first_ports": FIRST_BLOCK_PORTS}},
            "include": [str(subscribers)],
            "control": {"socket": str(self.socket), "threads": control_threads},
        })
        self.start()

    def start(self):
        """A process that knows of no tunnel. Its configuration is the one before's, if there was one."""
        self.process = self._namespace.start(
            "taskset", "-c", f"{self._cores.control},{self._cores.worker}", GATEWAY_PROGRAM,
            "--config", self._path, name="adit-gateway")
        self._ports.wait_for_interfaces()
        wait_until(self._answers, 20 + self._clients / 1000,
                   lambda: f"the gateway to answer\n{self.process.log()}")

    def stop(self):
        if self.process.stop() != 0:
            raise LabError(f"the gateway did not end well:\n{self.process.log()[-3000:]}")

    def _answers(self):
        if self.process.exit_status is not None:
            raise LabError(f"the gateway ended ({self.process.exit_status}):\n"
                           f"{self.process.log()}")
        return self.lab.host(*self._ask(), check=False).returncode == 0

    def _ask(self):
        return [ADITCTL, "--socket", self.socket, "--json", "status"]

    def worker(self):
        """The worker's counters of events."""
        return self._worker()["events"]

    def status(self):
        return json.loads(self.lab.host(*self._ask(), timeout_s=120).stdout)

    def drops(self):
        return self._worker()["drops"]

    def _worker(self):
        return self.status()["worker"]

    def swarm_arguments(self, protection):
        return ["--gateway-key", self.key.public, "--protection", protection,
                "--public", "30.2.1.10", "--public-router", "30.2.1.1"]


class Testpmd:
    """dpdk-testpmd, forwarding from port to port without a look at the packets."""

    def __init__(self, namespace, ports, cores):
        devices = [word for device in ports.middle for word in ("--vdev", device)]
        self.process = namespace.start(
            "stdbuf", "-oL", "taskset", "-c", f"{cores.control},{cores.worker}", TESTPMD,
            "--lcores", f"0@{cores.control},1@{cores.worker}", "--main-lcore", "0",
            "--in-memory", "--single-file-segments", "-m", "256", "--no-pci", "--no-telemetry",
            *devices, "--", "--forward-mode=io", "--nb-cores=1", f"--burst={BURST}",
            f"--rxd={DESCRIPTORS}", f"--txd={DESCRIPTORS}", "--total-num-mbufs=32768",
            "--stats-period=3600", name="testpmd")
        ports.wait_for_interfaces()
        self.process.wait_for_log("packet forwarding - ports", 20)

    def worker(self):
        return {}

    def swarm_arguments(self, _):
        return ["--yardstick"]


class Swarm:
    """bench/swarm around a middle that runs already. Trials are dictionaries, as
    bench/swarm/trial.h has them."""

    def __init__(self, lab, namespace, devices, clients, arguments, core=None):
        self.log_path = lab.directory / "swarm.log"
        pin = [] if core is None else ["taskset", "-c", core]
        command = namespace.argv(
            "setpriv", "--pdeathsig", "KILL", *pin, SWARM, "--clients-port", devices[0],
            "--servers-port", devices[1], "--clients", clients, "--up-within", UP_WITHIN_S,
            "--commands", *arguments)
        for tries_left in reversed(range(START_TRIES)):
            try:
                return self._start(command)
            except BaseException as error:
                self.stop()
                # net_af_packet names its group of sockets by process and interface, and now and
                # then the name is that of another port in the namespace.
                if tries_left == 0 or "PACKET_FANOUT" not in str(error):
                    raise

    def _start(self, command):
        self._log = open(self.log_path, "wb")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._log, text=True, bufsize=1,
                                         start_new_session=True)
        if (line := self._line(UP_WITHIN_S * 3)) != "ready":
            raise LabError(f"swarm did not come up: {line}\n{self.log()}")

    def log(self):
        return self.log_path.read_text(errors="replace")[-3000:]

    def _line(self, timeout_s):
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        return self._process.stdout.readline().strip() if ready else ""

    def trial(self, **words):
        return self._answer(words, words["seconds"] + 20)

    def lose_gateway(self):
        """Before the gateway ends: its devices are left alone from now on."""
        self._answer({"gateway": "ends"}, 20)

    def find_gateway(self):
        """Another one is there; who does not hold back has a tunnel again, and its flows mappings."""
        self._answer({"gateway": "begins"}, UP_WITHIN_S * 3)

    def _answer(self, words, timeout_s):
        self._process.stdin.write(json.dumps(words) + "\n")
        line = self._line(timeout_s)
        if not line:
            raise LabError(f"swarm gave no answer\n{self.log()}")
        result = json.loads(line)
        if "error" in result:
            raise LabError(f"swarm: {result['error']}")
        return result

    def right_trial(self, **words):
        """The same, or a LabError when a byte was wrong."""
        result = self.trial(**words)
        if result["wrong"] != 0:
            raise LabError(f"{result['wrong']} packets came back wrong, so there are no figures; "
                           f"the first:\n{result['first_wrong']}")
        return result

    def stop(self):
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def core_round_trip_ns(lab, cores):
    program = BUILD / "bench" / "core_round_trip"
    return float(lab.host(program, str(cores.worker), str(cores.generator), timeout_s=60).stdout)


class Hugepages:
    """So many free hugepages of 2 MiB while the block runs, and afterwards as many as before."""

    COUNT = "/proc/sys/vm/nr_hugepages"

    def __init__(self, wanted):
        self._wanted = wanted

    def __enter__(self):
        self._before = self._count()
        missing = self._wanted - self._free()
        if missing > 0:
            self._set(self._before + missing)
        if self._free() < self._wanted:
            self._set(self._before)
            raise LabError(f"only {self._free()} of {self._wanted} hugepages are to be had")

    def __exit__(self, *_):
        self._set(self._before)

    def _count(self):
        with open(self.COUNT) as file:
            return int(file.read())

    def _set(self, count):
        with open(self.COUNT, "w") as file:
            file.write(str(count))

    @staticmethod
    def _free():
        with open("/proc/meminfo") as file:
            return int(re.search(r"HugePages_Free:\s+(\d+)", file.read())[1])


def allowed_cores():
    return sorted(os.sched_getaffinity(0))
