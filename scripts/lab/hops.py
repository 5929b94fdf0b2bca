"""The worked example's address table, from packets captured at each hop.

Four captures (pc's tunnel device, pc's network card, natfw's outer side, the server's card) see
one application datagram on its way out and its answer on the way back. Which packet is which:
in the clear by its addresses; sealed, by size, and the same sealed bytes must appear on both
sides of natfw.
"""

import dataclasses

from lab import topology
from lab.capture import UDP, Capture
from lab.netns import LabError

# The datagram's payload: a size that nothing else in the tunnel has.
PAYLOAD_BYTES = 777
INNER_BYTES = 20 + 8 + PAYLOAD_BYTES
SEALED_BYTES = range(16 + INNER_BYTES + 16, 16 + INNER_BYTES + 15 + 16 + 1)


@dataclasses.dataclass
class Row:
    where: str
    outer: str  # "–" where there is no tunnel
    inner: str  # "sealed" where it cannot be read


class Hops:
    """Starts the four captures; rows() stops them and returns the table, outbound first."""

    def __init__(self, world, tunnel_device="adit0"):
        self.world = world
        self._captures = [
            Capture(world.pc, tunnel_device),
            Capture(world.pc, "eth0", "udp"),
            Capture(world.natfw, "outside", "udp"),
            Capture(world.server, "eth0", "udp"),
        ]

    def rows(self):
        at_tunnel, at_pc, at_natfw, at_server = (c.stop() for c in self._captures)
        return (self._direction(at_tunnel, at_pc, at_natfw, at_server, outbound=True)
                + self._direction(at_tunnel, at_pc, at_natfw, at_server, outbound=False))

    def _direction(self, at_tunnel, at_pc, at_natfw, at_server, outbound):
        bare = _only(at_tunnel, "pc's tunnel device", lambda p: _is_datagram(p, outbound))
        wrapped = _only(at_pc, "pc's card", lambda p: _carries(p, bare, outbound))
        passed = _only(at_natfw, "natfw", lambda p: p.payload == wrapped.payload)
        served = _only(at_server, "the server's card", lambda p: _is_datagram(p, outbound))
        if served.payload != bare.payload:
            raise LabError("what the server's card saw is not what the application sent")
        rows = [
            Row("application → virtual NIC", "–", bare.flow()),
            Row("client → NAT/FW", wrapped.flow(), _inner(wrapped)),
            Row("NAT/FW → gateway", passed.flow(), _inner(passed)),
            Row("gateway → server", "–", served.flow()),
        ]
        if outbound:
            return rows
        for row, where in zip(rows, ("virtual NIC → application", "NAT/FW → client",
                                     "gateway → NAT/FW", "server → gateway")):
            row.where = where
        return rows[::-1]


def _is_datagram(packet, outbound):
    port = packet.destination_port if outbound else packet.source_port
    return (packet.protocol == UDP and port == topology.SERVER_PORT
            and len(packet.payload) == PAYLOAD_BYTES)


def _carries(packet, bare, outbound):
    port = packet.destination_port if outbound else packet.source_port
    if port != topology.TUNNEL_PORT:
        return False
    if packet.sealed:
        return len(packet.payload) in SEALED_BYTES
    return packet.inner is not None and packet.inner.payload == bare.payload


def _inner(packet):
    return "sealed" if packet.sealed else packet.inner.flow()


def _only(packets, where, wanted):
    found = [packet for packet in packets if wanted(packet)]
    if len(found) != 1:
        raise LabError(f"{len(found)} packets at {where} where one was expected; captured there: "
                       + "; ".join(packet.flow() for packet in packets))
    return found[0]


def external_port(rows):
    """P: what the gateway made of the application's port, as the server saw it."""
    return int(rows[3].inner.split(" → ")[0].rsplit(":", 1)[1])


def expected(protection, nat_address, nat_port):
    """The worked example's table, with the external port that the gateway happened to give."""
    def row(where, outer, inner):
        return Row(where, " → ".join(outer) if outer else "–", " → ".join(inner))

    pc = f"{topology.PC}:{topology.PC_TUNNEL_PORT}"
    natfw = f"{topology.NATFW}:{topology.NATFW_TUNNEL_PORT}"
    gateway = f"{topology.GATEWAY}:{topology.TUNNEL_PORT}"
    inner = f"{topology.INNER}:{topology.INNER_PORT}"
    server = f"{topology.SERVER}:{topology.SERVER_PORT}"
    external = f"{nat_address}:{nat_port}"
    rows = [
        row("application → virtual NIC", None, (inner, server)),
        row("client → NAT/FW", (pc, gateway), (inner, server)),
        row("NAT/FW → gateway", (natfw, gateway), (inner, server)),
        row("gateway → server", None, (external, server)),
        row("server → gateway", None, (server, external)),
        row("gateway → NAT/FW", (gateway, natfw), (server, inner)),
        row("NAT/FW → client", (gateway, pc), (server, inner)),
        row("virtual NIC → application", None, (server, inner)),
    ]
    if protection != "plain":
        for at in (1, 2, 5, 6):
            rows[at].inner = "sealed"
    return rows


def as_text(rows):
    """The table, as the demo prints it."""
    table = [("where", "outer source → destination", "inner source → destination")]
    table += [(row.where, row.outer, row.inner) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
             for line in table]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)
