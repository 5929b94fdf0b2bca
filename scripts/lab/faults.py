"""What goes wrong around a client, made to order: a disk that is full, a wall clock that jumps, a
gateway that answers DHCP with whatever it likes.
"""

import ipaddress
import struct
import time

from lab.programs import BUILD

SUPPORT = BUILD / "tests" / "support"
YEAR_S = 365 * 24 * 3600


class SmallDisk:
    """A file system of its own below the lab's directory, which can be filled and emptied."""

    BYTES = 64 << 10

    def __init__(self, lab):
        self._lab = lab
        self.path = lab.directory / "disk"
        self.path.mkdir()
        lab.host("mount", "-t", "tmpfs", "-o", f"size={self.BYTES}", "tmpfs", self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._lab.host("umount", "--lazy", self.path)

    def fill(self):
        """To the last byte."""
        with open(self.path / "filler", "ab", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    continue
            except OSError:
                return

    def make_room(self):
        (self.path / "filler").unlink()


class WallClock:
    """The wall clock of the programs that are started with `runner`, and whether they slept."""

    def __init__(self, lab):
        self._path = lab.directory / "wall-clock"
        self._path.write_bytes(bytes(16))
        self._asleep_ns = 0
        self.runner = ["env", f"LD_PRELOAD={SUPPORT / 'libwall-clock.so'}",
                       f"ADIT_WALL_CLOCK={self._path}"]

    def set_off(self, seconds):
        """So far from the machine's, from now on."""
        self._write(0, int(seconds))

    def sleep(self, seconds):
        """Their machine has slept for so long, and has this moment woken up: the kernel, too, tells
        that as if the clock had been set."""
        self._asleep_ns += int(seconds * 1e9)
        self._write(8, self._asleep_ns)
        self.set_for_all()

    def _write(self, at, number):
        # In place: programs have it mapped.
        with open(self._path, "r+b") as file:
            file.seek(at)
            file.write(struct.pack("=q", number))

    @staticmethod
    def set_for_all():
        """Sets the machine's clock, to what it is: whoever has asked to hear of that does."""
        time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))


def drop_icmp_of(router):
    """What this namespace would say by ICMP is counted, and nobody hears it."""
    router.nft("""
table ip silent {
  chain out {
    type filter hook output priority filter;
    ip protocol icmp counter drop
  }
}
""")


def option(code, *values):
    """A DHCP option; each value is bytes, an address as text, or (bytes wide, integer)."""
    parts = [value if isinstance(value, bytes) else
             value[1].to_bytes(value[0], "big") if isinstance(value, tuple) else
             ipaddress.IPv4Address(value).packed for value in values]
    value = b"".join(parts)
    return bytes([code, len(value)]) + value


def route(prefix, via="192.168.1.1"):
    """One of option 121's."""
    network = ipaddress.IPv4Network(prefix)
    significant = network.network_address.packed[:(network.prefixlen + 7) // 8]
    return bytes([network.prefixlen]) + significant + ipaddress.IPv4Address(via).packed


END = b"\xff"
# Of a reply that commits at once (RFC 4039) to the address it gives.
SOUND = {
    "type": option(53, (1, 5)),
    "rapid commit": option(80),
    "server": option(54, "192.168.1.1"),
    "lease": option(51, (4, 3600)),
    "mask": option(1, "255.255.255.0"),
    "router": option(3, "192.168.1.1"),
    "mtu": option(26, (2, 1400)),
}


def reply(address="192.168.1.10", **changes):
    """A sound reply but for `changes`: options by name, new or in another's place."""
    return address, b"".join((SOUND | changes).values()) + END


class HostileGateway:
    """A gateway in `namespace`, trusted by its key, that answers each DHCP query with `replies`."""

    def __init__(self, namespace, keys, listen, client="pc"):
        """`listen` is (address, port)."""
        self.endpoint = f"{listen[0]}:{listen[1]}"
        self._replies = namespace.lab.directory / "replies"
        self.answer_with()
        self.process = namespace.start(
            SUPPORT / "hostile-gateway", keys["gateway"].private_file, keys[client].public,
            listen[1], self._replies, name="hostile-gateway")
        self.process.wait_for_log("ready")

    def answer_with(self, *replies):
        """Pairs of an address and options, as reply() makes them."""
        fresh = self._replies.with_suffix(".new")
        fresh.write_text("".join(f"{address} {options.hex()}\n" for address, options in replies))
        fresh.rename(self._replies)
