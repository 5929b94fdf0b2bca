"""The client for CPEs, built as docs/client.md says: one file that needs nothing beside it."""

import os
import re
import shutil
import subprocess
import time

import pytest
from conftest import start_client, start_gateway
from lab import topology
from lab.programs import BUILD, ROOT

STATIC = BUILD / "static-client"
STRIPPED_BYTES_MAX = 7 << 20
BUILD_S_MAX = 240  # of the first time; then a few

# It compiles, with all the cores there are.
pytestmark = [pytest.mark.alone, pytest.mark.timeout(BUILD_S_MAX + 30)]


def documented_options():
    text = (ROOT / "docs" / "client.md").read_text()
    command, = re.findall(r"`meson setup build-static ([^`]*)`", text)
    options = command.split()
    assert "-Dstatic_client=true" in options
    return options


@pytest.fixture(scope="module")
def program():
    """Beside the other builds, and kept: what has not changed is not compiled again."""
    began_s = time.monotonic()
    if not (STATIC / "build.ninja").exists():
        subprocess.run(["meson", "setup", STATIC, ROOT, *documented_options()], check=True,
                       stdout=subprocess.DEVNULL)
    path = STATIC / "client-lite" / "adit-client"
    subprocess.run(["ninja", "-C", STATIC, path.relative_to(STATIC)], check=True,
                   stdout=subprocess.DEVNULL, timeout=BUILD_S_MAX)
    print(f"built in {time.monotonic() - began_s:.1f} s")
    return path


def test_it_is_one_small_file_without_an_interpreter_or_libraries(lab, program):
    assert "INTERP" not in lab.host("readelf", "-lW", program).stdout
    assert "NEEDED" not in lab.host("readelf", "-dW", program).stdout
    stripped = lab.directory / "stripped"
    lab.host("strip", "-o", stripped, program)
    size = stripped.stat().st_size
    print(f"stripped, with all it needs: {size} of {STRIPPED_BYTES_MAX} bytes")
    assert size <= STRIPPED_BYTES_MAX


def test_it_runs_where_there_is_nothing_else(lab, program):
    alone = lab.directory / "alone"
    alone.mkdir()
    shutil.copy(program, alone)

    def run(*words, **arguments):
        return lab.host("chroot", alone, "/adit-client", *words, **arguments).stdout.strip()

    private = run("genkey")
    public = run("pubkey", stdin=private)
    assert public == lab.host("wg", "pubkey", stdin=private).stdout.strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", run("--version"))
    for name, text in (("key", private), ("client.yaml",
                       f'gateways: [{{endpoint: "30.1.1.10:8000", public_key: "{public}"}}]\n'
                       "private_key_file: key\n")):
        (alone / name).write_text(text)
        (alone / name).chmod(0o600)
    run("--check", "--config", "/client.yaml")
    (alone / "client.yaml").write_text("gateways: []\n")
    wrong = lab.host("chroot", alone, "/adit-client", "--check", "--config", "/client.yaml",
                     check=False)
    assert wrong.returncode == 2 and "client.yaml:1:" in wrong.stderr


def test_it_carries_packets_within_its_sandbox(world, program):
    gateway = start_gateway(world)
    client = start_client(gateway, world.pc, program=program)
    assert os.readlink(f"/proc/{client.process.pid}/exe") == str(program)
    assert world.pc.succeeds("ping", "-c3", "-i0.2", "-W2", topology.SERVER)
    assert "Seccomp:\t2" in open(f"/proc/{client.process.pid}/status").read()
    assert client.stop() == 0
