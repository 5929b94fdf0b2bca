"""adit-gateway without root: with the capabilities that docs/operations.md names, and without."""

import os

from conftest import start_client
from lab.programs import GATEWAY_PROGRAM, Gateway, make_keys, write_config

NOBODY = 65534
CAPABILITIES = ("net_raw", "net_admin", "ipc_lock")


def setpriv(capabilities):
    granted = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
            f"--inh-caps={granted}", f"--ambient-caps={granted}", f"--bounding-set={granted}",
            "--no-new-privs"]


def nobodys_gateway(world):
    """A gateway whose files nobody may read."""
    keys = make_keys(world.lab, ["gateway", "pc"])
    gateway = Gateway(world, keys, [{"name": "pc"}], ["aes-256-gcm"])
    gateway.keys = keys
    os.chown(keys["gateway"].private_file, NOBODY, NOBODY)
    os.chown(world.lab.directory, NOBODY, NOBODY)
    return gateway


def test_three_capabilities_are_enough(world):
    gateway = nobodys_gateway(world)
    gateway.start(*setpriv(CAPABILITIES))
    start_client(gateway, world.pc)
    world.pc.run("ping", "-c1", "-W2", "192.168.1.1")
    world.pc.run("ping", "-c1", "-W2", "40.1.1.10")
    assert os.stat(f"/proc/{gateway.process.pid}").st_uid == NOBODY


def test_without_them_it_names_what_is_missing(world):
    gateway = nobodys_gateway(world)
    path = write_config(world.lab, "gateway", gateway.config)
    done = world.gateway.run(*setpriv([]), GATEWAY_PROGRAM, "--config", path, check=False)
    assert done.returncode == 1
    for name in CAPABILITIES:
        assert f"running without CAP_{name.upper()}" in done.stderr, done.stderr
