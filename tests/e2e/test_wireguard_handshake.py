"""lib/tunnel alone against a real wireguard-go, in both roles, with and without a preshared key:
one namespace, wg-probe on a UDP socket, wireguard-go with its own TUN device.

        wg-probe  127.0.0.1:51001 ══ UDP over lo ══ 127.0.0.1:51000  wireguard-go ── wgN 10.9.0.1
        10.9.0.2 (inside the probe)                                                 (the kernel)
"""

import os
import pathlib

import pytest

from lab.netns import wait_until
from lab.programs import BUILD

PROBE = BUILD / "tests" / "support" / "wg-probe"
WIREGUARD_PORT = 51000
PROBE_PORT = 51001
WIREGUARD_ADDRESS = "10.9.0.1"
PROBE_ADDRESS = "10.9.0.2"


class Pair:
    """wireguard-go, configured for the probe as its peer, and the probe's command line."""

    def __init__(self, lab, with_psk):
        self.namespace = lab.namespace("wireguard")
        self.device = f"wgh{os.getpid()}"
        wireguard_private, wireguard_public = self.key_pair(lab)
        probe_private, probe_public = self.key_pair(lab)
        psk = lab.host("wg", "genpsk").stdout.strip() if with_psk else None
        self.arguments = [
            "--private-key-file", self.secret(lab, "probe.key", probe_private),
            "--peer-public-key", wireguard_public,
        ]
        if psk:
            self.arguments += ["--psk-file", self.secret(lab, "psk", psk)]

        self.namespace.start("wireguard-go", "-f", self.device)
        control = pathlib.Path("/var/run/wireguard") / f"{self.device}.sock"
        wait_until(control.exists, 5, "wireguard-go's control socket")
        lines = [
            "[Interface]",
            f"PrivateKey = {wireguard_private}",
            f"ListenPort = {WIREGUARD_PORT}",
            "[Peer]",
            f"PublicKey = {probe_public}",
            f"AllowedIPs = {PROBE_ADDRESS}/32",
            f"Endpoint = 127.0.0.1:{PROBE_PORT}",
        ]
        if psk:
            lines.append(f"PresharedKey = {psk}")
        self.namespace.run("wg", "setconf", self.device, "/dev/stdin",
                           stdin="\n".join(lines) + "\n")
        self.namespace.address(self.device, f"{WIREGUARD_ADDRESS}/24")
        self.namespace.ip("link", "set", self.device, "up")

    @staticmethod
    def key_pair(lab):
        private = lab.host("wg", "genkey").stdout
        return private.strip(), lab.host("wg", "pubkey", stdin=private).stdout.strip()

    @staticmethod
    def secret(lab, name, text):
        path = lab.directory / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return path


@pytest.fixture(params=[False, True], ids=["no psk", "psk"])
def pair(lab, request):
    assert PROBE.exists(), f"{PROBE} is not built"
    return Pair(lab, request.param)


def test_wireguard_go_answers_our_initiation_and_its_kernel_our_ping(pair):
    done = pair.namespace.run(
        PROBE, "initiate", "--endpoint", f"127.0.0.1:{WIREGUARD_PORT}",
        "--inner-source", PROBE_ADDRESS, "--inner-destination", WIREGUARD_ADDRESS,
        *pair.arguments, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the echo was answered" in done.stdout


def test_we_answer_wireguard_gos_initiation_and_its_kernels_ping(pair):
    probe = pair.namespace.start(PROBE, "respond", "--listen", PROBE_PORT, *pair.arguments)
    probe.wait_for_log("listening")
    ping = pair.namespace.run("ping", "-c1", "-W5", PROBE_ADDRESS, check=False)
    assert ping.returncode == 0, ping.stdout
    assert probe.wait(5) == 0


def test_a_wrong_preshared_key_is_refused_in_both_roles(lab):
    pair = Pair(lab, with_psk=True)
    wrong = lab.host("wg", "genpsk").stdout.strip()
    pair.arguments[-1] = pair.secret(lab, "wrong-psk", wrong)
    done = pair.namespace.run(PROBE, "initiate", "--endpoint", f"127.0.0.1:{WIREGUARD_PORT}",
                              "--timeout", 2, *pair.arguments, check=False)
    assert done.returncode == 1
    assert "no handshake; last refusal: not_authentic" in done.stderr

    probe = pair.namespace.start(PROBE, "respond", "--listen", PROBE_PORT, "--timeout", 3,
                                 *pair.arguments)
    probe.wait_for_log("listening")
    assert not pair.namespace.succeeds("ping", "-c1", "-W1", PROBE_ADDRESS)
    assert probe.wait(5) == 1
