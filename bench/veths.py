"""How the veths of a network behave: as wires would, or as the kernel makes them."""

# What would let packets larger than a wire's pass. `gso` leaves the last three as they are.
LARGE_PACKETS = ("tso", "gso", "gro", "tx-udp-segmentation", "tx-udp_tnl-segmentation",
                 "tx-udp_tnl-csum-segmentation")
# How the veths behave, and what the table's heading says of it.
WIRES = {
    "cut": "every wire carries packets of its MTU, and whoever receives takes them one by one",
    "gro": "every wire carries packets of its MTU, which receivers put together (GRO)",
    "uncut": "veths as the kernel makes them: 64 KiB pass as one packet",
}


def lay_wires(world, wires, kind):
    """Makes the veths what WIRES says. Left alone, the kernel hands the 64 KiB segments of TCP, and
    what a program sends by UDP_SEGMENT, from namespace to namespace, which no wire does."""
    if wires == "uncut":
        if not kind.has_dpdk_gateway:
            world.internet.run("ethtool", "-K", "gateway", "tx", "on", "tso", "on", "gso", "on")
        return
    settings = dict.fromkeys(LARGE_PACKETS, "off")
    if wires == "gro":
        settings["gro"] = "on"
    words = [word for setting in settings.items() for word in setting]
    for namespace in world.lab.namespaces.values():
        for line in namespace.ip("-brief", "link", "show", "type", "veth").stdout.splitlines():
            namespace.run("ethtool", "-K", line.split("@")[0], *words)
