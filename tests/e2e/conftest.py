"""What the end-to-end tests share. Each test gets a network of its own (scripts/lab/topology.py
draws it), starts the real programs in it and looks at real packets. When it fails, the report
holds the ends of all the programs' logs.
"""

import pathlib
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
sys.dont_write_bytecode = True

from lab.netns import Lab, wait_until  # noqa: E402
from lab.programs import Client, Gateway, make_keys  # noqa: E402
from lab.topology import SERVER, SERVER_PORT, WorkedExample  # noqa: E402

PYTHON = "/usr/bin/python3"
UDP = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "lab" / "udp.py"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab is not None:
        report.sections.append(("programs", lab.logs()))


@pytest.fixture
def lab():
    with Lab("test") as a_lab:
        yield a_lab


@pytest.fixture
def world(lab, request):
    """The worked example's network; @pytest.mark.parametrize("world", ["two ports"],
    indirect=True) gives the gateway a public port of its own."""
    return WorkedExample(lab, two_ports=getattr(request, "param", "") == "two ports")


def start_gateway(world, protection="aes-256-gcm", clients=("pc",), strangers=(), change=None):
    """A gateway that knows these clients, and not the strangers, who have keys all the same.
    `change` may edit its configuration before it starts."""
    keys = make_keys(world.lab, ["gateway", *clients, *strangers])
    gateway = Gateway(world, keys, [{"name": name} for name in clients], [protection])
    gateway.keys = keys
    if change:
        change(gateway.config)
    gateway.start()
    return gateway


def start_client(gateway, namespace, name="pc", change=None, up_within_s=15, **arguments):
    client = Client(namespace, gateway.keys, name, gateway.config["tunnel"]["protections"],
                    **arguments)
    if change:
        change(client.config)
    client.start()
    client.wait_until_up(up_within_s)
    return client


def stand_still(client, seconds):
    """The program, as if the machine slept."""
    client.process.send(signal.SIGSTOP)
    time.sleep(seconds)
    client.process.send(signal.SIGCONT)


def within(bound_s, what, condition, since_s):
    """Waits for `condition`, prints how long it took beside its bound, and holds it to that."""
    wait_until(condition, bound_s + 20, what)
    took_s = time.monotonic() - since_s
    print(f"recovery: {what}: {took_s:.2f} s (bound {bound_s} s)")
    assert took_s <= bound_s, f"{what}: {took_s:.2f} s, more than {bound_s} s"


def quick_ageing(config):
    config["tunnel"].update(heartbeat="1s", dead_after="3s")


def start_udp_echo(world, port=SERVER_PORT):
    echo = world.server.start(PYTHON, UDP, "echo", SERVER, port, name="udp-echo")
    echo.wait_for_log("ready")
    return echo


def ask(namespace, source, source_port, size=100, count=1, port=SERVER_PORT):
    """One datagram or several to the server's echo and back; raises when one is lost."""
    return namespace.run(PYTHON, UDP, "ask", source, source_port, SERVER, port, size, count)


def start_web_server(world, files):
    """Serves `files` (name: bytes) on 40.1.1.10:6600."""
    directory = world.lab.directory / "www"
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    world.server.start(PYTHON, "-m", "http.server", SERVER_PORT, "--bind", SERVER,
                       "--directory", directory, name="http-server")
    wait_until(lambda: world.internet.succeeds("curl", "-sfI", "-m2", url("")), 5, "the web server")


def url(path):
    return f"http://{SERVER}:{SERVER_PORT}/{path}"


def download(namespace, path, timeout_s=20, limit_rate=None):
    """The bytes that curl got. A limited rate holds for the sender too: the receiver's window is
    small then, and the system does not take in the whole file while curl waits.
    """
    target = namespace.lab.directory / f"download-{namespace.name}"
    limit = []
    if limit_rate:
        limit = ["--limit-rate", limit_rate]
        namespace.sysctl("net.ipv4.tcp_rmem=4096 131072 262144")
    namespace.run("curl", "-sSf", "-m", timeout_s, "-o", target, *limit, url(path),
                  timeout_s=timeout_s + 5)
    return target.read_bytes()
