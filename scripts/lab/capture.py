"""Captures packets at a place in the lab, and reads them: IPv4 with UDP, TCP and ICMP echo, and
inside UDP to or from the tunnel's port, the tunnel's header and the packet that it carries.

The reader is deliberately our own and small: it is the independent check on what the programs
put on the wire, so it must not share their code. It reads only what a test compares.
"""

import dataclasses
import signal
import struct

from lab import topology

LINK_ETHERNET = 1
LINK_RAW_IP = (12, 101)
ICMP, TCP, UDP = 1, 6, 17


@dataclasses.dataclass
class Packet:
    """One IPv4 packet. `inner` is what a plain tunnel packet carries; `sealed` says that it
    carries something which only the tunnel's two ends can read."""

    source: str
    destination: str
    protocol: int
    source_port: int  # for ICMP echo, both are the identifier; 0 where there are no ports
    destination_port: int
    payload: bytes  # of UDP and TCP; for everything else what follows the IP header
    ttl: int
    bytes: bytes  # the whole packet
    tcp_flags: int = 0
    tcp_mss: int = 0  # the option of a SYN
    inner: "Packet | None" = None
    tunnel_type: int = 0  # first byte of a tunnel message, 0 when it is none

    @property
    def sealed(self):
        return self.tunnel_type == 4

    @property
    def is_syn(self):
        return self.tcp_flags & 2 != 0

    def flow(self):
        return (f"{self.source}:{self.source_port} → "
                f"{self.destination}:{self.destination_port}")


def parse(data):
    """An IPv4 packet from its bytes, or None."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    header_bytes = (data[0] & 15) * 4
    total, fragment = struct.unpack_from("!H2xH", data, 2)
    data = data[:total]
    body = data[header_bytes:]
    packet = Packet(_dotted(data[12:16]), _dotted(data[16:20]), data[9], 0, 0, body, data[8], data)
    if fragment & 0x1FFF:
        return packet
    if packet.protocol == UDP and len(body) >= 8:
        packet.source_port, packet.destination_port = struct.unpack_from("!HH", body)
        packet.payload = body[8:]
        if topology.TUNNEL_PORT in (packet.source_port, packet.destination_port):
            _parse_tunnel(packet)
    elif packet.protocol == TCP and len(body) >= 20:
        packet.source_port, packet.destination_port = struct.unpack_from("!HH", body)
        packet.tcp_flags = body[13]
        packet.tcp_mss = _mss(body[20:(body[12] >> 4) * 4])
        packet.payload = body[(body[12] >> 4) * 4:]
    elif packet.protocol == ICMP and len(body) >= 8 and body[0] in (0, 8):
        packet.source_port = packet.destination_port = struct.unpack_from("!H", body, 4)[0]
    return packet


def _parse_tunnel(packet):
    if len(packet.payload) >= 8 and packet.payload[0] in (1, 2, 3, 4, 5):
        packet.tunnel_type = packet.payload[0]
        if packet.tunnel_type == 5:  # type, session tag (3), receiver index (4), the packet
            packet.inner = parse(packet.payload[8:])


def _mss(options):
    at = 0
    while at + 1 < len(options) and options[at] != 0:
        if options[at] == 2:
            return struct.unpack_from("!H", options, at + 2)[0]
        at += 1 if options[at] == 1 else max(options[at + 1], 2)
    return 0


def _dotted(four_bytes):
    return ".".join(map(str, four_bytes))


def read(path):
    """The IPv4 packets of a capture file, in order."""
    data = path.read_bytes()
    magic, link_type = struct.unpack_from("<I16xI", data)
    if magic != 0xA1B2C3D4:
        raise ValueError(f"{path}: not a capture file of this machine")
    skip = 14 if link_type == LINK_ETHERNET else 0
    if skip == 0 and link_type not in LINK_RAW_IP:
        raise ValueError(f"{path}: link type {link_type}")
    packets, at = [], 24
    while at + 16 <= len(data):
        captured = struct.unpack_from("<I", data, at + 8)[0]
        packet = parse(data[at + 16 + skip:at + 16 + captured])
        if packet:
            packets.append(packet)
        at += 16 + captured
    return packets


class Capture:
    """tcpdump on one device, from construction to stop(), which returns the packets."""

    def __init__(self, namespace, device, expression="ip"):
        self.path = namespace.lab.directory / f"{namespace.name}-{device}-{id(self)}.pcap"
        self._process = namespace.start(
            "tcpdump", "-n", "-i", device, "-s", "0", "-U", "--immediate-mode", "-B", "8192",
            "-Z", "root", "-w", self.path, *expression.split(), name=f"tcpdump-{device}")
        self._process.wait_for_log("listening on")

    def stop(self):
        self._process.stop(signal.SIGINT)
        return read(self.path)
