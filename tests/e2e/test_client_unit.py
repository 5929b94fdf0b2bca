"""adit-client under its systemd unit, as it is installed: on a machine with a systemd of its own
(scripts/lab/machine.py), as its own user with one right and under every restriction of the unit;
with the real systemd-resolved, which asks the real polkit.
"""

import json
import pathlib
import shutil

import pytest
from conftest import start_gateway
from lab import topology
from lab.machine import Machine
from lab.netns import wait_until
from lab.programs import BUILD, Client
from test_client_system import devices, routes

UNIT = "adit-client@office"
USER = "adit-client"
KEY = "/etc/adit/office.key"
RULE = "usr/share/polkit-1/rules.d/adit-client.rules"
CAP_NET_ADMIN = 1 << 12
RESOLVED = pathlib.Path("/var/cache/adit/systemd-resolved")  # scripts/setup has unpacked it
RESOLVED_UNITS = ("dbus.socket", "dbus.service", "polkit.service", "systemd-resolved.service")


@pytest.fixture
def machine(world):
    """With all that `meson install` installs, and a gateway that knows it and a name server."""
    def with_dns(config):
        config["pools"][0]["dns"] = ["9.9.9.9"]

    world.pc.sysctl("net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0")
    with Machine(world.pc) as a_machine:
        a_machine.gateway = start_gateway(world, change=with_dns)
        install(a_machine)
        configure(a_machine)
        yield a_machine


def install(machine):
    machine.lab.host("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", machine.files)
    program, = machine.files.glob("**/bin/adit-client")
    machine.prefix = program.parent.parent
    machine.client = f"/{program.relative_to(machine.files)}"
    rule = machine.prefix / "share/polkit-1/rules.d/adit-client.rules"
    machine.write(RULE, rule.read_text())  # where polkit looks, whatever the prefix
    shutil.copytree(machine.prefix / "lib/systemd/system", machine.units, dirs_exist_ok=True)


def install_resolved(machine):
    shutil.copytree(RESOLVED / "usr", machine.files / "usr", dirs_exist_ok=True)
    shutil.copytree(RESOLVED / "lib", machine.files / "usr/lib", dirs_exist_ok=True)
    machine.start_with(*RESOLVED_UNITS)
    shutil.copy(machine.units / RESOLVED_UNITS[-1],
                machine.units / "dbus-org.freedesktop.resolve1.service")


def configure(machine):
    keys = machine.gateway.keys
    config = Client(machine.namespace, keys, "pc", ["aes-256-gcm"]).config
    del config["state_directory"], config["control_socket"]
    config |= {"private_key_file": KEY, "dns": "auto", "routes": ["default"]}
    machine.write("etc/adit/office.yaml", json.dumps(config))
    machine.write(KEY.lstrip("/"), keys["pc"].private_file.read_text(), 0o600)


def boot(machine, key_of=USER):
    machine.boot()
    machine.run("chown", f"{key_of}:", KEY)


def start(machine):
    machine.run("systemctl", "start", UNIT)
    wait_until(lambda: status(machine).get("dns") == ["9.9.9.9"], 10,
               lambda: f"the tunnel to be up, with its name server\n{machine.log.read_text()}")
    assert status(machine)["last_error"] is None
    machine.namespace.run("ping", "-c1", "-W2", topology.SERVER)


def status(machine):
    done = machine.run(machine.client, "status", "--json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def rights(machine):
    """What the kernel says of the main process: its user and group, and its bounds."""
    pid = machine.show(UNIT, "MainPID")
    lines = machine.run("cat", f"/proc/{pid}/status").stdout.splitlines()
    fields = dict(line.split(":\t", 1) for line in lines)
    ids = {int(number) for name in ("Uid", "Gid", "Groups") for number in fields[name].split()}
    return ids, int(fields["CapBnd"], 16), fields["NoNewPrivs"], fields["Seccomp"]


def servers(machine, *runner):
    return machine.run(*runner, "resolvectl", "dns", "adit0").stdout.split()[3:]


def test_it_is_up_as_a_user_of_its_own_and_takes_everything_back(machine):
    install_resolved(machine)
    boot(machine)
    before = routes(machine.namespace), devices(machine.namespace)
    start(machine)
    user = int(machine.run("id", "-u", USER).stdout)
    group = int(machine.run("id", "-g", USER).stdout)
    assert user != 0
    assert rights(machine) == ({user, group}, CAP_NET_ADMIN, "1", "2")
    assert servers(machine) == ["9.9.9.9"]
    assert machine.run("resolvectl", "domain", "adit0").stdout.split()[3:] == ["~."]
    assert "inet6" not in machine.namespace.run("ip", "address", "show", "adit0").stdout
    machine.run("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "Result") == "success"
    assert (routes(machine.namespace), devices(machine.namespace)) == before
    assert "adit0" not in machine.run("resolvectl", "dns").stdout


def test_polkit_lets_that_user_set_a_devices_name_servers_and_no_more(machine):
    install_resolved(machine)
    boot(machine)
    start(machine)
    machine.run("resolvectl", "dns", "adit0", "8.8.8.8", user=USER)
    assert servers(machine) == ["8.8.8.8"]
    machine.run("resolvectl", "revert", "adit0", user=USER)
    assert servers(machine) == []
    for user, words in ((USER, ("dnssec", "adit0", "no")), ("nobody", ("dns", "adit0", "8.8.8.8"))):
        refused = machine.run("resolvectl", *words, user=user, check=False)
        assert refused.returncode != 0 and "authentication required" in refused.stderr


def test_one_that_was_killed_is_started_again_and_undoes_what_it_left(machine):
    install_resolved(machine)
    boot(machine)
    before = routes(machine.namespace), devices(machine.namespace)
    start(machine)
    killed = machine.show(UNIT, "MainPID")
    machine.run("systemctl", "kill", "--kill-whom=all", "-s", "KILL", UNIT)
    wait_until(lambda: machine.show(UNIT, "MainPID") not in ("0", killed), 5, "the next start")
    start(machine)
    assert "undoing what an earlier run left" in machine.log.read_text()
    machine.run("systemctl", "stop", UNIT)
    assert (routes(machine.namespace), devices(machine.namespace)) == before


def test_what_root_looks_into_stays_that_users(machine):
    install_resolved(machine)
    boot(machine)
    start(machine)
    machine.run("systemctl", "stop", UNIT)
    machine.run(machine.client, "doctor", "--config", "/etc/adit/office.yaml")
    owners = machine.run("find", "/run/adit", "/var/lib/adit", "-printf", "%u\n").stdout.split()
    assert set(owners) == {USER} and len(owners) >= 5
    start(machine)
    assert "warning" not in machine.log.read_text()


def test_a_key_that_is_not_that_users_is_a_mistake_that_it_tells(machine):
    boot(machine, key_of="root")
    assert machine.run("systemctl", "start", UNIT, check=False).returncode == 0
    wait_until(lambda: machine.show(UNIT, "ActiveState") == "failed", 5, "it to give up")
    assert (machine.show(UNIT, "ExecMainStatus"), machine.show(UNIT, "NRestarts")) == ("2", "0")
    assert f"{KEY}\" cannot be opened: Permission denied" in machine.log.read_text()


def test_with_the_shipped_drop_in_resolvconf_writes_roots_files(machine):
    machine.write("usr/bin/resolvconf", """#!/bin/sh -e
case $1 in
  -a) cat >/etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf ;;
  -d) rm /etc/resolv.conf ;;
esac
""", 0o755)
    drop_in = (machine.prefix / "share/doc/adit/resolvconf.conf").read_text()
    machine.unit("adit-client@.service.d/resolvconf.conf", drop_in)
    boot(machine, key_of="root")
    start(machine)
    assert rights(machine) == ({0}, CAP_NET_ADMIN, "1", "2")
    assert machine.run("cat", "/etc/resolv.conf").stdout == "nameserver 9.9.9.9\n"
    machine.run("systemctl", "stop", UNIT)
    assert machine.run("ls", "/etc/resolv.conf", check=False).returncode != 0
