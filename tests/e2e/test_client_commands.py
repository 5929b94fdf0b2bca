"""adit-client's commands beside running: down, import, the keys."""

import stat

from conftest import start_gateway
from lab import topology
from lab.netns import wait_until
from lab.programs import CLIENT_PROGRAM
from test_client_system import devices, recording_tool, routes, start_client_with_dns

ADDRESS = "192.168.1.77"


def test_down_returns_when_everything_is_undone(world):
    before = routes(world.pc), devices(world.pc)
    tools, _ = recording_tool(world, "resolvconf", then="sleep 0.3")
    client = start_client_with_dns(world, tools, routes=["default"])
    assert routes(world.pc) != before[0]
    world.lab.host(CLIENT_PROGRAM, "down", "--socket", client.socket)
    assert (routes(world.pc), devices(world.pc)) == before
    wait_until(lambda: client.process.exit_status == 0, 5, "the client to end")
    again = world.lab.host(CLIENT_PROGRAM, "down", "--socket", client.socket, check=False)
    assert again.returncode == 1
    assert "nobody answers" in again.stderr


def write_wg_file(gateway):
    path = gateway.lab.directory / "office.conf"
    path.write_text(f"""
[Interface]
PrivateKey = {gateway.keys["pc"].private_file.read_text().strip()}
Address = {ADDRESS}/24
DNS = 9.9.9.9
[Peer]
PublicKey = {gateway.key.public}
AllowedIPs = {topology.SERVER}/32
Endpoint = {topology.GATEWAY}:{topology.TUNNEL_PORT}
PersistentKeepalive = 5
""")
    return path


def test_an_imported_wg_quick_file_comes_up(world):
    gateway = start_gateway(world, "chacha20-poly1305", change=lambda config: config[
        "subscribers"][0].update(address=ADDRESS))
    path = write_wg_file(gateway)
    to = world.lab.directory / "imported"
    to.mkdir()
    done = world.lab.host(CLIENT_PROGRAM, "import", path, "--to", to)
    assert f"{path}:5:1: Interface.DNS: left out" in done.stderr
    files = [to / "office.key", to / "office.yaml"]
    assert done.stdout.splitlines() == [f"wrote {file}" for file in files]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    with open(files[1], "a") as config:
        config.write(f"state_directory: {to}\ncontrol_socket: {to}/office.sock\n")
    client = world.pc.start(CLIENT_PROGRAM, "up", "--config", files[1], name="imported")
    client.wait_for_log(": up")
    assert world.pc.succeeds("ping", "-c2", "-i0.2", "-W2", topology.SERVER)
    assert ADDRESS in world.pc.run("ip", "address", "show", "office").stdout


def test_import_writes_nothing_that_the_client_would_refuse(world):
    gateway = start_gateway(world)
    path = write_wg_file(gateway)
    path.write_text(path.read_text().replace(f"{ADDRESS}/24", f"{topology.GATEWAY}/24"))
    to = world.lab.directory / "imported"
    to.mkdir()
    done = world.lab.host(CLIENT_PROGRAM, "import", path, "--to", to, check=False)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == (
        f"adit-client: {path}: nothing was written, for the client would not take what it becomes:\n"
        f"  address: the gateway's own address {topology.GATEWAY} lies in this network\n")
    assert list(to.iterdir()) == []


def test_import_overwrites_nothing_and_leaves_nothing_half_done(world):
    gateway = start_gateway(world)
    path = write_wg_file(gateway)
    to = world.lab.directory / "imported"
    to.mkdir()
    (to / "office.yaml").write_text("mine\n")
    done = world.lab.host(CLIENT_PROGRAM, "import", path, "--to", to, check=False)
    assert done.returncode == 1 and "office.yaml: File exists" in done.stderr
    assert [file.name for file in to.iterdir()] == ["office.yaml"]
    assert (to / "office.yaml").read_text() == "mine\n"
    path.write_text(path.read_text() + "Colour = red\n")
    done = world.lab.host(CLIENT_PROGRAM, "import", path, "--to", to, check=False)
    assert done.returncode == 2
    assert done.stderr == f"{path}:11:1: Peer.Colour: unknown key\n"
