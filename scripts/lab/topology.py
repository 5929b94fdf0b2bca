"""The worked example's network, with the patent's very addresses:

    pc                    natfw                  internet                  server
    10.1.1.10 ── 10.1.1.1 │ 20.1.1.10 ── 20.1.1.1 │ 40.1.1.1 ── 40.1.1.10
                                                  │ 30.1.1.1 ── 30.1.1.10  gateway (DPDK)
                                                  │ 30.2.1.1 ── 30.2.1.10  its public port, when
                                                                           that is another one
natfw masquerades, and its firewall lets out nothing but UDP to 30.1.1.10:8000. The internet
knows no private address. The gateway's devices have no address of the kernel's: the DPDK program
behind them answers for 30.1.1.10, or nobody does.
"""

GATEWAY = "30.1.1.10"
GATEWAY_PUBLIC = "30.2.1.10"  # with two ports only
TUNNEL_PORT = 8000
PC = "10.1.1.10"
PC_TUNNEL_PORT = 5000
NATFW = "20.1.1.10"
NATFW_TUNNEL_PORT = 20001
SERVER = "40.1.1.10"
SERVER_PORT = 6600
INNER = "192.168.1.10"
INNER_PORT = 1025
INNER_ROUTER = "192.168.1.1"

NATFW_RULES = f"""
table ip natfw {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "inside" ip daddr {GATEWAY} udp dport {TUNNEL_PORT} accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "outside" ip saddr {PC} udp sport {PC_TUNNEL_PORT} masquerade to :{NATFW_TUNNEL_PORT}
    oifname "outside" masquerade
  }}
}}
"""


class WorkedExample:
    def __init__(self, lab, two_ports=False):
        self.lab = lab
        self.two_ports = two_ports
        self.pc = lab.namespace("pc")
        self.natfw = lab.namespace("natfw")
        self.internet = lab.namespace("internet")
        self.gateway = lab.namespace("gateway")
        self.server = lab.namespace("server")
        self._connect_pc()
        self._connect_natfw()
        self._connect_internet()

    @property
    def nat_address(self):
        """What the server sees as a client's address."""
        return GATEWAY_PUBLIC if self.two_ports else GATEWAY

    def _connect_pc(self):
        self.lab.link(self.pc, "eth0", self.natfw, "inside")
        self.pc.address("eth0", f"{PC}/24")
        self.natfw.address("inside", "10.1.1.1/24")
        self.pc.default_route("10.1.1.1")

    def _connect_natfw(self):
        self.lab.link(self.natfw, "outside", self.internet, "natfw")
        self.natfw.address("outside", f"{NATFW}/24")
        self.internet.address("natfw", "20.1.1.1/24")
        self.natfw.default_route("20.1.1.1")
        self.natfw.sysctl("net.ipv4.ip_forward=1")
        self.natfw.nft(NATFW_RULES)

    def _connect_internet(self):
        self.internet.sysctl("net.ipv4.ip_forward=1")
        self.lab.link(self.internet, "gateway", self.gateway, "uplink")
        self.internet.address("gateway", "30.1.1.1/24")
        self.internet.no_offloads("gateway")
        if self.two_ports:
            self.lab.link(self.internet, "public", self.gateway, "public")
            self.internet.address("public", "30.2.1.1/24")
            self.internet.no_offloads("public")
        self.lab.link(self.internet, "server", self.server, "eth0")
        self.internet.address("server", "40.1.1.1/24")
        self.server.address("eth0", f"{SERVER}/24")
        self.server.default_route("40.1.1.1")

    def add_pc(self, name, address):
        """Another machine in the private network, beside pc, on a segment of its own."""
        subnet = address.rsplit(".", 1)[0]
        namespace = self.lab.namespace(name)
        self.lab.link(namespace, "eth0", self.natfw, f"in-{name}")
        namespace.address("eth0", f"{address}/24")
        self.natfw.address(f"in-{name}", f"{subnet}.1/24")
        namespace.default_route(f"{subnet}.1")
        self.natfw.nft(f'add rule ip natfw forward iifname "in-{name}" '
                       f"ip daddr {GATEWAY} udp dport {TUNNEL_PORT} accept\n")
        return namespace

    def masquerade_at_gateway(self):
        """The kernel of the gateway's namespace forwards and translates, in our gateway's place."""
        self.gateway.address("uplink", f"{GATEWAY}/24")
        self.gateway.default_route("30.1.1.1")
        self.gateway.sysctl("net.ipv4.ip_forward=1")
        self.gateway.nft("""
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "uplink" masquerade
  }
}
""")

    def put_nat_before_pc(self):
        """Puts a second NAT between pc and natfw: pc 10.9.1.10, the NAT 10.1.1.20 outside."""
        nat = self.lab.namespace("homenat")
        self.pc.ip("link", "delete", "eth0")
        self.lab.link(self.pc, "eth0", nat, "inside")
        self.lab.link(nat, "outside", self.natfw, "inside")
        self.pc.address("eth0", "10.9.1.10/24")
        self.pc.default_route("10.9.1.1")
        nat.address("inside", "10.9.1.1/24")
        nat.address("outside", "10.1.1.20/24")
        nat.default_route("10.1.1.1")
        nat.sysctl("net.ipv4.ip_forward=1")
        self.natfw.address("inside", "10.1.1.1/24")
        self.set_nat_port(nat, 30001)
        return nat

    @staticmethod
    def set_nat_port(nat, port):
        """Makes the second NAT use `port` from now on, for flows that exist already too.

        Taking the outer link down makes the kernel forget the connections masqueraded to it;
        this works on kernels without conntrack's netlink interface as well.
        """
        nat.ip("link", "set", "outside", "down")
        nat.nft(f"""
table ip homenat
delete table ip homenat
table ip homenat {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "outside" meta l4proto udp masquerade to :{port}
    oifname "outside" masquerade
  }}
}}
""")
        nat.ip("link", "set", "outside", "up")
        nat.default_route("10.1.1.1")
