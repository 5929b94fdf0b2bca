"""Packets nobody asked for, put on the wire at the gateway and at the client: each is dropped
under the counter that names the reason, and both programs go on working.

The frames are made here, byte by byte where scapy would put things right, and sent from the
internet's side of the gateway's cable (or natfw's side of pc's).
"""

import collections
import random
import time

import pytest
from conftest import PYTHON, UDP, ask, start_client, start_gateway, start_udp_echo
from lab import topology
from lab.capture import Capture
from lab.netns import wait_until
from scapy.layers.inet import ICMP, IP, TCP, UDP as Udp
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

INJECT = UDP.parent / "inject.py"
FROM_NATFW = dict(sport=topology.NATFW_TUNNEL_PORT, dport=topology.TUNNEL_PORT)


def inject(namespace, device, frames):
    namespace.run(PYTHON, INJECT, device, stdin="\n".join(bytes(f).hex() for f in frames) + "\n",
                  timeout_s=60)


def mac_of(namespace, device):
    return namespace.run("cat", f"/sys/class/net/{device}/address").stdout.strip()


class Wire:
    """The internet's end of the gateway's cable."""

    def __init__(self, world):
        self.world = world
        self.ether = Ether(dst=mac_of(world.gateway, "uplink"),
                           src=mac_of(world.internet, "gateway"))

    def send(self, frames):
        inject(self.world.internet, "gateway", frames)

    def ip(self, source=topology.NATFW, destination=topology.GATEWAY, **fields):
        return self.ether / IP(src=source, dst=destination, **fields)

    def tunnel(self, payload):
        """To the tunnel's port, from where pc's tunnel comes."""
        return self.ip() / Udp(**FROM_NATFW) / Raw(payload)


def edit(frame, at, new_bytes):
    """The frame with some bytes replaced, and nothing put right."""
    data = bytearray(bytes(frame))
    data[at:at + len(new_bytes)] = new_bytes
    return bytes(data)


def expect_drops(gateway, wire, rows):
    """Sends every row's frame and compares what each counter rose by with what the rows name."""
    before = gateway.counters()
    wire.send([frame for frame, _ in rows])
    expected = dict(collections.Counter(name for _, name in rows))

    def risen():
        now = gateway.counters()
        return {name: now[name] - before[name] for name in expected}

    try:
        wait_until(lambda: risen() == expected, 5, "the counters")
    except Exception:
        assert risen() == expected
    gateway.check_conservation()


def one_tunnel_packet(world, outbound=True):
    """A data packet of the live tunnel, as natfw's outer side saw it."""
    capture = Capture(world.natfw, "outside", "udp")
    ask(world.pc, topology.INNER, topology.INNER_PORT)
    time.sleep(0.2)
    port = topology.TUNNEL_PORT
    return next(p for p in capture.stop() if len(p.payload) >= 100 and
                (p.destination_port if outbound else p.source_port) == port)


def still_works(world):
    ask(world.pc, topology.INNER, topology.INNER_PORT, count=3)


@pytest.fixture
def wire(world):
    start_udp_echo(world)
    return Wire(world)


IP_AT = 14  # after the Ethernet header


def test_frames_and_ip_headers_that_are_wrong(world, wire):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    good = wire.tunnel(bytes([4]) + bytes(63))
    expect_drops(gateway, wire, [
        (bytes(good)[:IP_AT + 10], "ip_truncated"),
        (edit(good, IP_AT, b"\x65"), "ip_bad_version"),
        (edit(good, IP_AT, b"\x43"), "ip_bad_length"),  # a header of 12 bytes
        (wire.ip(len=2000) / Udp(**FROM_NATFW) / Raw(bytes(64)), "ip_truncated"),
        (edit(good, IP_AT + 10, b"\xde\xad"), "ip_bad_checksum"),
        (wire.ip() / Udp(**FROM_NATFW, len=500) / Raw(bytes(64)), "ip_bad_transport"),
        (wire.ip() / Udp(**FROM_NATFW, len=4) / Raw(bytes(64)), "ip_bad_transport"),
        (wire.ip(destination="30.1.1.99") / Udp(**FROM_NATFW), "not_our_address"),
        (edit(good, 0, b"\x02\x00\x00\x00\x00\x77"), "not_our_mac"),
        (edit(good, 12, b"\x88\xb5"), "not_ip"),
        (Ether(dst=wire.ether.dst, src=wire.ether.src) / Dot1Q(vlan=7) / bytes(good)[IP_AT:],
         "wrong_vlan"),
    ])
    still_works(world)


def test_fragments_that_are_wrong(world, wire):
    # On net_af_packet the kernel puts fragments together before the driver sees them.
    gateway = start_gateway(world, change=lambda config: config["ports"][0].update(
        device="net_af_xdp0,iface=uplink"))
    start_client(gateway, world.pc)
    server = dict(source=topology.SERVER)
    expect_drops(gateway, wire, [
        (wire.ip(flags="MF") / Udp(**FROM_NATFW) / Raw(bytes(63)), "fragment_malformed"),
        (wire.ip(frag=8191, proto="udp") / Raw(bytes(64)), "fragment_malformed"),
        (wire.ip(**server, frag=1, proto="tcp") / Raw(bytes(64)), "fragment_overlap"),
        (wire.ip(**server, flags="MF", proto="tcp") / Raw(bytes(16)), "fragment_tiny"),
        (wire.ip(**server, flags="MF") / Udp(sport=6600, dport=50000) / Raw(bytes(64)),
         "no_mapping"),
        (wire.ip(**server, flags="MF") / ICMP(type=8) / Raw(bytes(64)), "local_fragment"),
    ])
    still_works(world)


def test_tunnel_messages_that_are_wrong(world, wire):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    seen = one_tunnel_packet(world).payload
    index = seen[4:8]
    later = edit(seen, 8, (int.from_bytes(seen[8:16], "little") + 100).to_bytes(8, "little"))
    expect_drops(gateway, wire, [
        (wire.tunnel(b""), "tunnel_truncated"),
        (wire.tunnel(b"\x04\x00\x00"), "tunnel_truncated"),
        (wire.tunnel(b"\x04\x00\x00\x00" + index + bytes(8)), "tunnel_truncated"),
        (wire.tunnel(b"\x01" + bytes(146)), "tunnel_truncated"),
        (wire.tunnel(b"\x01" + bytes(148)), "tunnel_truncated"),
        (wire.tunnel(b"\x05\x00\x00\x00" + index + bytes(10)), "tunnel_truncated"),
        (wire.tunnel(b"\x00" + bytes(63)), "unknown_type"),
        (wire.tunnel(b"\x09" + bytes(1400)), "unknown_type"),
        (wire.tunnel(b"\x02" + bytes(91)), "unexpected_message"),
        (wire.tunnel(b"\x03" + bytes(63)), "unexpected_message"),
        (wire.tunnel(b"\x04\x00\x00\x00\xff\xee\xdd\xcc" + bytes(40)), "unknown_index"),
        (wire.tunnel(b"\x05\x00\x00\x00\x00\x00\x00\x00" + bytes(40)), "unknown_index"),
        (wire.tunnel(b"\x05\x00\x00\x00" + index + bytes(40)), "wrong_protection"),
        (wire.tunnel(seen), "replayed"),
        (wire.tunnel(seen), "replayed"),
        (wire.tunnel(later), "not_authentic"),
        (wire.tunnel(edit(later, len(later) - 1, bytes([later[-1] ^ 1]))), "not_authentic"),
    ])
    still_works(world)


def test_handshakes_of_nobody_are_refused(world, wire):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    generator = random.Random(1)
    wire.send([wire.tunnel(b"\x01\x00\x00\x00" + generator.randbytes(144)) for _ in range(500)])
    time.sleep(0.5)
    gateway.check_conservation()
    assert len(gateway.tunnels()) == 1
    still_works(world)


def test_inner_packets_that_are_wrong(world, wire):
    gateway = start_gateway(world, "plain")
    start_client(gateway, world.pc)
    header = one_tunnel_packet(world).payload[:8]  # type, the session's tag, the index

    def inside(packet):
        return wire.tunnel(header + bytes(packet))

    def inner(source=topology.INNER, destination=topology.SERVER, **fields):
        return IP(src=source, dst=destination, **fields)

    udp = Udp(sport=2000, dport=6600)
    good = inner() / udp / Raw(bytes(40))
    looks_like_tunnel = Udp(sport=5000, dport=topology.TUNNEL_PORT) / Raw(header + bytes(good))
    rows = [
        (inside(edit(good, 0, b"\x65")), "inner_bad_version"),
        (inside(edit(good, 0, b"\x41")), "inner_bad_length"),
        (inside(inner(len=1000) / udp), "inner_truncated"),
        (inside(edit(good, 10, b"\xbe\xef")), "inner_bad_checksum"),
        (inside(inner() / Udp(sport=2000, dport=6600, len=600) / Raw(bytes(9))),
         "inner_bad_transport"),
        (inside(inner(source="192.168.1.11") / udp), "spoofed_source"),
        (inside(inner(source="10.1.1.10") / udp), "spoofed_source"),
        (inside(inner(source="0.0.0.0") / udp), "spoofed_source"),
        (inside(inner() / Udp(sport=68, dport=67) / Raw(bytes(300))), "dhcp_in_plain"),
        (inside(inner(destination="224.0.0.1") / udp), "bad_destination"),
        (inside(inner(destination="127.0.0.1") / udp), "bad_destination"),
        (inside(inner(destination="255.255.255.255") / udp), "bad_destination"),
        (inside(inner(destination="0.0.0.0") / udp), "bad_destination"),
        (inside(inner(destination=topology.INNER_ROUTER) / udp), "to_router"),
        (inside(inner(destination="192.168.1.11") / udp), "tunnel_to_tunnel"),
        (inside(inner(destination=topology.GATEWAY) / looks_like_tunnel), "no_mapping"),
        (inside(inner(flags="MF", proto=6) / Raw(bytes(16))), "fragment_tiny"),
        (inside(inner(ttl=1) / udp), "ttl_exceeded"),
        (wire.tunnel(edit(header + bytes(good), 1, bytes([header[1] ^ 1]))), "bad_tag"),
        (wire.ip(source="20.1.1.66") / Udp(**FROM_NATFW) / Raw(header + bytes(good)),
         "wrong_address"),
    ]
    expect_drops(gateway, wire, rows)
    still_works(world)
    assert gateway.tunnel("pc")["remote"] == "20.1.1.10:20001", "plain packets never move a tunnel"


def test_an_inner_packet_that_looks_like_a_tunnel_packet_is_carried_as_any_other(world, wire):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    start_udp_echo(world, topology.TUNNEL_PORT)
    ask(world.pc, topology.INNER, topology.TUNNEL_PORT, port=topology.TUNNEL_PORT, count=3)
    gateway.check_conservation()


def test_public_side_packets_that_are_wrong(world, wire):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)
    server = dict(source=topology.SERVER)
    quoted = IP(src=topology.GATEWAY, dst=topology.SERVER) / Udp(sport=50000, dport=6600)
    error = wire.ip(**server) / ICMP(type=3, code=1)
    expect_drops(gateway, wire, [
        (wire.ip(**server) / Udp(sport=6600, dport=50000) / Raw(b"hello"), "no_mapping"),
        (wire.ip(**server) / TCP(sport=6600, dport=50000, flags="S"), "unsolicited_syn"),
        (wire.ip(**server) / ICMP(type=0, id=50000), "no_mapping"),
        (wire.ip(source="127.0.0.1") / Udp(sport=6600, dport=50000), "bad_source"),
        (wire.ip(source="224.0.0.9") / Udp(sport=6600, dport=50000), "bad_source"),
        (wire.ip(source=topology.GATEWAY) / Udp(sport=6600, dport=50000), "bad_source"),
        (wire.ip(**server, proto=47) / Raw(bytes(64)), "no_mapping"),
        (wire.ip(**server) / ICMP(type=13), "icmp_unsupported"),
        (error / quoted, "icmp_no_mapping"),
        (error / Raw(bytes(quoted)[:12]), "icmp_bad_quote"),
        (wire.ip(**server) / ICMP(type=3, code=1, chksum=0x1234) / quoted, "icmp_bad_checksum"),
    ])
    still_works(world)


def test_twenty_thousand_mutilated_frames_stop_nothing(world, wire):
    gateway = start_gateway(world, "plain")
    client = start_client(gateway, world.pc)
    seen = one_tunnel_packet(world)
    generator = random.Random(2)
    originals = [
        bytes(wire.tunnel(seen.payload)),
        bytes(wire.tunnel(b"\x04" + seen.payload[1:])),
        bytes(wire.tunnel(b"\x01" + generator.randbytes(147))),
        bytes(wire.ip(source=topology.SERVER) / Udp(sport=6600, dport=1024) / Raw(bytes(100))),
        bytes(wire.ip(source=topology.SERVER) / ICMP(type=3, code=4) /
              IP(src=topology.GATEWAY, dst=topology.SERVER) / Udp(sport=1024, dport=6600)),
        bytes(Ether(dst=wire.ether.dst, src=wire.ether.src, type=0x0806) / Raw(bytes(28))),
    ]
    frames = []
    for _ in range(20_000):
        frame = bytearray(generator.choice(originals))
        for _ in range(generator.randint(1, 4)):
            frame[generator.randrange(12, len(frame))] = generator.randrange(256)
        if generator.random() < 0.3:
            frame = frame[:generator.randrange(14, len(frame))]
        if generator.random() < 0.1:
            frame += generator.randbytes(generator.randrange(1, 1514 - len(frame)))
        frames.append(frame)
    received = gateway.counters()["received"]
    wire.send(frames)
    wait_until(lambda: gateway.counters()["received"] > received + 15_000, 10,
               "the gateway to have read them")
    time.sleep(0.5)
    gateway.check_conservation()
    assert client.is_up()
    still_works(world)
    assert gateway.stop() == 0


def test_the_client_drops_what_its_gateway_did_not_send(world):
    start_udp_echo(world)
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc)
    seen = one_tunnel_packet(world, outbound=False).payload
    later = edit(seen, 8, (int.from_bytes(seen[8:16], "little") + 100).to_bytes(8, "little"))
    ether = Ether(dst=mac_of(world.pc, "eth0"), src=mac_of(world.natfw, "inside"))
    ports = dict(sport=topology.TUNNEL_PORT, dport=topology.PC_TUNNEL_PORT)

    def to_client(payload, source=topology.GATEWAY):
        return ether / IP(src=source, dst=topology.PC) / Udp(**ports) / Raw(payload)

    rows = [
        (to_client(seen, source="30.1.1.11"), "rx_wrong_source"),
        (to_client(b"\x04\x00\x00"), "rx_bad_length"),
        (to_client(b"\x09" + bytes(60)), "rx_unknown_type"),
        (to_client(b"\x04\x00\x00\x00\xff\xff\xff\xff" + bytes(40)), "rx_unknown_index"),
        (to_client(seen), "rx_replayed"),
        (to_client(later), "rx_not_authentic"),
        (to_client(b"\x05\x00\x00\x00" + seen[4:8] + bytes(40)), "rx_wrong_protection"),
    ]
    before = client.counters()
    inject(world.natfw, "inside", [frame for frame, _ in rows])
    generator = random.Random(3)
    time.sleep(0.5)
    after = client.counters()
    assert {name: after[name] - before[name] for _, name in rows} == \
        {name: 1 for _, name in rows}
    inject(world.natfw, "inside",
           [to_client(generator.choice(b"\x01\x02\x03\x04\x05").to_bytes(1, "little")
                      + generator.randbytes(generator.randrange(1400))) for _ in range(1000)])
    time.sleep(0.5)
    assert client.is_up()
    still_works(world)
