"""What scripts/bench peers compares: how each is brought up in the worked example's network.

Every one carries pc's packets to 40.1.1.10 by way of 30.1.1.10, which translates pc's inner address
to its own; but for direct routing, which is the network without a tunnel, for scale. natfw's
firewall lets out nothing but the tunnel's UDP, so whatever reaches the server has been tunnelled.
Each uses the defaults of what Debian installs. bring_up() returns the processes that are the
tunnel, both ends; an empty list where the kernel is.
"""

import dataclasses

from lab import topology
from lab.netns import wait_until
from lab.programs import Client, Gateway, WireGuard, make_keys, start_client_pair

SERVER_PREFIX = f"{topology.SERVER}/32"
# Of the drivers for a veth the quickest.
AF_XDP = "net_af_xdp0,iface=uplink"
INNER_NETWORK = "192.168.1.0/24"


@dataclasses.dataclass(frozen=True)
class Kind:
    peer: str
    protection: str
    bring_up: object  # a function of the WorkedExample

    @property
    def has_dpdk_gateway(self):
        return self.peer == "adit"

    @property
    def name(self):
        has_several = self.peer in ("adit", "adit-clients")
        return f"{self.peer}:{self.protection}" if has_several else self.peer


def bring_up_direct(world):
    world.natfw.nft('insert rule ip natfw forward iifname "inside" accept\n')
    return []


def bring_up_vxlan(world):
    """VXLAN has one port for both ends and expects it at the far end too. It passes a NAT only if
    it sends from that port as well, and the NAT keeps it: hence the range of one port."""
    world.masquerade_at_gateway()
    for namespace, here, there, address in (
            (world.pc, topology.PC, topology.GATEWAY, topology.INNER),
            (world.gateway, topology.GATEWAY, topology.NATFW, topology.INNER_ROUTER)):
        port = topology.TUNNEL_PORT
        namespace.ip("link", "add", "vxlan0", "type", "vxlan", "id", "1", "local", here,
                     "remote", there, "dstport", port, "srcport", port, port + 1)
        # The NAT on the way would corrupt the outer checksum of a packet whose inner checksum is
        # left to hardware.
        namespace.run("ethtool", "-K", "vxlan0", "tx", "off")
        namespace.ip("link", "set", "vxlan0", "mtu", "1450", "up")
        namespace.address("vxlan0", f"{address}/24")
    world.pc.ip("route", "add", SERVER_PREFIX, "via", topology.INNER_ROUTER)
    return []


def bring_up_wireguard(world):
    world.masquerade_at_gateway()
    keys = make_keys(world.lab, ["gateway", "pc"])
    server = WireGuard(world.gateway, keys["gateway"], topology.INNER_ROUTER, keys["pc"].public,
                       allowed=[f"{topology.INNER}/32"], listen_port=topology.TUNNEL_PORT,
                       suffix="s")
    client = WireGuard(world.pc, keys["pc"], topology.INNER, keys["gateway"].public,
                       allowed=[SERVER_PREFIX], listen_port=topology.PC_TUNNEL_PORT,
                       endpoint=f"{topology.GATEWAY}:{topology.TUNNEL_PORT}", keepalive_s=1)
    wait_until(lambda: client.latest_handshake_s() > 0, 10, "wireguard-go's handshake")
    return [server.process, client.process]


def bring_up_openvpn(world):
    """TLS with a certificate at each end that the other knows by its fingerprint."""
    world.masquerade_at_gateway()
    fingerprints = {name: make_certificate(world.lab, name) for name in ("server", "client")}
    common = ["--dev", "tun0", "--proto", "udp4", "--data-ciphers", "AES-256-GCM",
              "--verb", "4", "--disable-dco"]
    server = world.gateway.start(
        "openvpn", *common, "--server", *INNER_NETWORK.replace("/24", " 255.255.255.0").split(),
        "--topology", "subnet", "--local", topology.GATEWAY, "--port", topology.TUNNEL_PORT,
        "--dh", "none", "--push", f"route {topology.SERVER} 255.255.255.255",
        *certificate_options(world.lab, "server", fingerprints["client"]), name="openvpn-server")
    server.wait_for_log("Initialization Sequence Completed")
    client = world.pc.start(
        "openvpn", *common, "--client", "--remote", topology.GATEWAY, topology.TUNNEL_PORT,
        "--lport", topology.PC_TUNNEL_PORT,
        *certificate_options(world.lab, "client", fingerprints["server"]), name="openvpn-client")
    client.wait_for_log("Initialization Sequence Completed", timeout_s=20)
    client.wait_for_log("cipher 'AES-256-GCM'", timeout_s=1)
    return [server, client]


def make_certificate(lab, name):
    """A key and a certificate signed by itself, in the lab's directory; its fingerprint."""
    key, certificate = lab.directory / f"{name}.pem", lab.directory / f"{name}.crt"
    lab.host("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1",
             "-nodes", "-sha256", "-days", "2", "-subj", f"/CN={name}", "-keyout", key,
             "-out", certificate)
    shown = lab.host("openssl", "x509", "-fingerprint", "-sha256", "-noout", "-in", certificate)
    return shown.stdout.strip().partition("=")[2]


def certificate_options(lab, name, peer_fingerprint):
    return ["--cert", lab.directory / f"{name}.crt", "--key", lab.directory / f"{name}.pem",
            "--peer-fingerprint", peer_fingerprint]


def bring_up_adit(world, protection):
    keys = make_keys(world.lab, ["gateway", "pc"])
    gateway = Gateway(world, keys, [{"name": "pc"}], [protection])
    gateway.config["log"]["level"] = "info"
    gateway.config["ports"][0]["device"] = AF_XDP
    gateway.start()
    client = Client(world.pc, keys, "pc", [protection])
    client.config["log"]["level"] = "info"
    client.start()
    client.wait_until_up()
    return [gateway.process, client.process]


def bring_up_adit_clients(world, protection):
    """No gateway: one client answers the other, and the kernel translates, as for wireguard-go."""
    world.masquerade_at_gateway()
    ends = start_client_pair(world, [protection])
    for end in ends:
        end.wait_until_up()
    return [end.process for end in ends]


KINDS = [
    Kind("direct", "none", bring_up_direct),
    Kind("vxlan", "none", bring_up_vxlan),
    Kind("wireguard-go", "chacha20-poly1305", bring_up_wireguard),
    Kind("openvpn", "aes-256-gcm", bring_up_openvpn),
] + [
    Kind("adit", protection, lambda world, chosen=protection: bring_up_adit(world, chosen))
    for protection in ("plain", "aes-256-gcm", "chacha20-poly1305")
] + [
    Kind("adit-clients", protection,
         lambda world, chosen=protection: bring_up_adit_clients(world, chosen))
    for protection in ("plain", "aes-256-gcm")
]
