"""adit-gateway, adit-client and a stock WireGuard client, as they run in the lab.

Configuration files are written as JSON, which is YAML too: a dictionary that a test can change
before start() needs no template.
"""

import collections
import dataclasses
import json
import os
import pathlib
import signal

from lab import topology
from lab.netns import LabError, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("ADIT_BUILD_DIR", ROOT / "build"))
GATEWAY_PROGRAM = BUILD / "gateway" / "adit-gateway"
ADITCTL = BUILD / "gateway" / "aditctl"
CLIENT_PROGRAM = BUILD / "client-lite" / "adit-client"
AF_PACKET = "net_af_packet{number},iface={device},blocksz=1048576,framesz=2048,framecnt=4096"


@dataclasses.dataclass
class Key:
    private_file: pathlib.Path
    public: str


def make_key(lab, name):
    path = lab.directory / f"{name}.key"
    private = lab.host(CLIENT_PROGRAM, "genkey").stdout
    path.touch(mode=0o600)
    path.write_text(private)
    public = lab.host(CLIENT_PROGRAM, "pubkey", stdin=private).stdout.strip()
    return Key(path, public)


def make_keys(lab, names):
    return {name: make_key(lab, name) for name in names}


def write_config(lab, name, config):
    path = lab.directory / f"{name}.yaml"
    path.write_text(json.dumps(config, indent=2))
    return path


def cores_for(workers):
    """The last of those that we may use."""
    return sorted(os.sched_getaffinity(0))[-workers:]


class Gateway:
    """The gateway of a WorkedExample. `subscribers` are dictionaries as the configuration has
    them, but for the public key: that is found in `keys` by the subscriber's name."""

    def __init__(self, world, keys, subscribers, protections):
        self.world = world
        self.lab = world.lab
        self.key = keys["gateway"]
        self.socket = self.lab.directory / "gateway.sock"
        self.process = None
        self.config = {
            "eal": {"hugepages": "no", "memory": "256M"},
            "ports": self._ports(),
            "uplink": "uplink",
            "public": "public" if world.two_ports else "uplink",
            "tunnel": {
                "port": topology.TUNNEL_PORT,
                "private_key_file": str(self.key.private_file),
                "protections": protections,
            },
            "pools": [{
                "name": "inner",
                "network": "192.168.1.0/24",
                "router": topology.INNER_ROUTER,
                "range": "192.168.1.10-192.168.1.200",
            }],
            "subscribers": [
                {"pool": "inner", "public_key": keys[subscriber["name"]].public} | subscriber
                for subscriber in subscribers
            ],
            "control": {"socket": str(self.socket)},
            "log": {"level": "debug"},
        }

    def _ports(self):
        ports = [{
            "name": "uplink",
            "device": AF_PACKET.format(number=0, device="uplink"),
            "address": f"{topology.GATEWAY}/24",
            "next_hop": "30.1.1.1",
        }]
        if self.world.two_ports:
            ports.append({
                "name": "public",
                "device": AF_PACKET.format(number=1, device="public"),
                "address": f"{topology.GATEWAY_PUBLIC}/24",
                "next_hop": "30.2.1.1",
            })
        return ports

    def start(self, *runner):
        """`runner` is a command that runs another, such as setpriv with its options."""
        path = write_config(self.lab, "gateway", self.config)
        self.process = self.world.gateway.start(*runner, GATEWAY_PROGRAM, "--config", path,
                                                name="adit-gateway")
        wait_until(self._answers, 20, lambda: f"the gateway to answer\n{self.process.log()}")

    def _answers(self):
        if self.process.exit_status is not None:
            raise LabError(f"the gateway ended ({self.process.exit_status}):\n"
                           f"{self.process.log()}")
        return self.lab.host(*self._ask("status"), check=False).returncode == 0

    def _ask(self, *words):
        return [ADITCTL, "--socket", self.socket, *words]

    def status(self):
        return json.loads(self.lab.host(*self._ask("--json", "status")).stdout)

    def status_text(self):
        return self.lab.host(*self._ask("status")).stdout.strip()

    def tunnels(self):
        return self.status()["tunnels"]

    def tunnel(self, subscriber):
        """The status of a subscriber's tunnel."""
        for tunnel in self.tunnels():
            if tunnel["subscriber"] == subscriber:
                return tunnel
        raise LabError(f"the gateway has no tunnel of {subscriber}")

    def mappings(self, tunnel_index):
        return json.loads(
            self.lab.host(*self._ask("--json", "mappings", tunnel_index)).stdout)["mappings"]

    def move(self, tunnel_index, worker):
        self.lab.host(*self._ask("move", tunnel_index, worker))

    def leases_bound(self):
        return sum(pool["bound"] for pool in self.status()["dhcp"]["pools"])

    def counters(self):
        """The worker's events and drops; a drop that never happened counts as 0."""
        worker = self.status()["worker"]
        return collections.Counter(worker["events"]) + collections.Counter(worker["drops"])

    def check_conservation(self):
        """Every packet is accounted for, as soon as the traffic has come to rest."""
        def unaccounted():
            worker = self.status()["worker"]
            events = worker["events"]
            came = sum(events[name] for name in
                       ("received", "handed_in", "taken_over", "generated"))
            went = sum(events[name] for name in
                       ("transmitted", "handed_out", "handed_over", "consumed"))
            return came - went - sum(worker["drops"].values())

        wait_until(lambda: unaccounted() == 0, 3,
                   lambda: f"{unaccounted()} packets to be accounted for")

    def stop(self):
        return self.process.stop(signal.SIGTERM, timeout_s=5)


class Client:
    """An adit-client in a namespace; `name` says which of `keys` is its own."""

    def __init__(self, namespace, keys, name, protections, listen_port=topology.PC_TUNNEL_PORT,
                 path_first=None, program=CLIENT_PROGRAM):
        self.namespace = namespace
        self.program = program
        self._path_first = path_first  # a directory of programs to be found before the machine's
        self.lab = namespace.lab
        self.name = name
        self.process = None
        self.socket = self.lab.directory / f"{name}.sock"
        self.config = {
            "gateways": [{
                "endpoint": f"{topology.GATEWAY}:{topology.TUNNEL_PORT}",
                "public_key": keys["gateway"].public,
            }],
            "private_key_file": str(keys[name].private_file),
            "device": "adit0",
            "routes": [f"{topology.SERVER}/32"],
            "dns": "none",  # the lab shares the machine's /etc
            "protections": protections,
            "listen_port": listen_port,
            "state_directory": str(self.lab.directory / f"{name}.state"),
            "control_socket": str(self.socket),
            "log": {"level": "debug"},
        }

    def start(self, *runner):
        """`runner` is a command that runs another, such as setpriv with its options."""
        path = write_config(self.lab, self.name, self.config)
        search = []
        if self._path_first:
            search = ["env", f"PATH={self._path_first}:{os.environ['PATH']}"]
        self.process = self.namespace.start(*runner, *search, self.program, "--config", path,
                                            name=f"adit-client-{self.name}")

    def wait_until_up(self, timeout_s=15):
        wait_until(self.is_up, timeout_s, f"{self.name}'s tunnel to come up")

    def is_up(self):
        if self.process.exit_status is not None:
            raise LabError(f"{self.name} ended ({self.process.exit_status}):\n"
                           f"{self.process.log()}")
        return self.socket.exists() and self.status().get("state") == "up"

    def status(self):
        done = self._status("--json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def address(self):
        """Its inner address, without the prefix length."""
        return self.status()["address"].split("/")[0]

    def counters(self):
        status = self.status()
        return status["counters"] | status["drops"]

    def status_text(self):
        return self._status().stdout.strip()

    def _status(self, *flags, check=True):
        return self.lab.host(CLIENT_PROGRAM, "status", "--socket", self.socket, *flags,
                             check=check)

    def stop(self):
        return self.process.stop(signal.SIGTERM, timeout_s=5)


def start_client_pair(world, protections, answering_protections=None, **settings):
    """A client at the gateway's place that answers the one at pc; (the answering one, pc's). Both
    have `settings`."""
    keys = make_keys(world.lab, ["gateway", "pc"])
    answering = Client(world.gateway, keys, "gateway", answering_protections or protections,
                       listen_port=topology.TUNNEL_PORT)
    answering.config |= {"answer": True, "address": f"{topology.INNER_ROUTER}/24", "routes": [],
                         "lan": [f"{topology.SERVER}/32"]}
    answering.config["gateways"][0] = {"endpoint": f"{topology.NATFW}:{topology.PC_TUNNEL_PORT}",
                                       "public_key": keys["pc"].public}
    calling = Client(world.pc, keys, "pc", protections)
    calling.config["address"] = f"{topology.INNER}/24"
    for end in (answering, calling):
        end.config["log"]["level"] = "info"
        end.config |= settings
        end.start()
    return answering, calling


class WireGuard:
    """wireguard-go, with nothing of ours in it: a device with one peer."""

    def __init__(self, namespace, key, address, peer_public, allowed, endpoint=None,
                 listen_port=0, keepalive_s=0, suffix=""):
        self.namespace = namespace
        # Its control socket is named by the device, in a directory of the whole machine; where
        # there are two of them, `suffix` tells them apart.
        self.device = f"wg{os.getpid()}{suffix}"
        self.process = namespace.start("wireguard-go", "-f", self.device)
        control = pathlib.Path("/var/run/wireguard") / f"{self.device}.sock"
        wait_until(control.exists, 5, "wireguard-go's control socket")
        lines = ["[Interface]", f"PrivateKey = {key.private_file.read_text().strip()}"]
        lines += [f"ListenPort = {listen_port}"] if listen_port else []
        lines += ["[Peer]", f"PublicKey = {peer_public}", f"AllowedIPs = {', '.join(allowed)}"]
        lines += [f"Endpoint = {endpoint}"] if endpoint else []
        lines += [f"PersistentKeepalive = {keepalive_s}"] if keepalive_s else []
        namespace.run("wg", "setconf", self.device, "/dev/stdin", stdin="\n".join(lines) + "\n")
        namespace.address(self.device, f"{address}/32")
        namespace.ip("link", "set", self.device, "mtu", "1420", "up")
        for prefix in allowed:
            namespace.ip("route", "add", prefix, "dev", self.device)

    def latest_handshake_s(self):
        """When the last handshake completed, in seconds since 1970; 0: never."""
        answer = self.namespace.run("wg", "show", self.device, "latest-handshakes").stdout
        return int(answer.split()[1])

    def stop(self):
        return self.process.stop(signal.SIGTERM)
