"""What adit-gateway offers its operator besides the tunnels."""

import signal
import time

import pytest
from conftest import start_client, start_gateway
from lab.netns import wait_until
from lab.programs import GATEWAY_PROGRAM, write_config


def test_metrics_are_served(world):
    gateway = start_gateway(
        world, change=lambda config: config.update(metrics={"listen": "127.0.0.1:9100"}))
    start_client(gateway, world.pc)
    text = world.gateway.run("curl", "-sSf", "-m5", "http://127.0.0.1:9100/metrics").stdout
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    received = [float(value) for name, value in samples.items() if "received" in name]
    assert received and max(received) > 0, text
    # Opened and answered, by the only thread there is.
    assert float(samples['adit_handshake_steps_total{thread="0"}']) >= 2, text
    assert float(samples['adit_control_events_total{event="tunnels_opened"}']) == 1, text
    assert float(samples['adit_handshakes_rejected_total{reason="no_lane"}']) == 0, text
    assert float(samples['adit_lanes{state="granted"}']) == 0, text


def test_a_second_gateway_on_the_same_control_socket_is_refused(world):
    gateway = start_gateway(world)
    gateway.config["ports"][0]["device"] = "net_null0"
    path = write_config(world.lab, "second", gateway.config)
    done = world.gateway.run(GATEWAY_PROGRAM, "--config", path, check=False)
    assert done.returncode == 1
    assert "another gateway answers" in done.stderr
    assert gateway.tunnels() == []  # and the first one still does


@pytest.mark.alone
def test_sigint_ends_it_like_sigterm_and_frees_its_socket(world):
    gateway = start_gateway(world)
    assert gateway.socket.exists()
    began = time.monotonic()
    assert gateway.process.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 1.0
    assert not gateway.socket.exists()


@pytest.mark.alone
def test_idle_it_leaves_the_processor_alone(world):
    gateway = start_gateway(world)
    start_client(gateway, world.pc)

    def cpu_ticks():
        fields = open(f"/proc/{gateway.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(1)
    before = cpu_ticks()
    time.sleep(3)
    used = (cpu_ticks() - before) / 100 / 3  # clock ticks are 1/100 s
    assert used < 0.5, f"{used:.0%} of a core without traffic"


@pytest.mark.alone
def test_sigterm_ends_it_while_a_device_still_waits_for_its_peer(world):
    gateway = start_gateway(world)
    waiting = world.lab.directory / "nobody.sock"
    config = gateway.config | {"control": {"socket": str(world.lab.directory / "second.sock")}}
    config["eal"] = config["eal"] | {"extra_args": ["--single-file-segments"]}
    config["ports"] = [config["ports"][0] | {
        "device": f"virtio_user0,path={waiting},server=1"}]
    path = write_config(world.lab, "second", config)
    process = world.gateway.start(GATEWAY_PROGRAM, "--config", path, name="waiting-gateway")
    wait_until(waiting.exists, 10, "the device to wait for its peer")
    began = time.monotonic()
    process.stop(signal.SIGTERM)
    assert time.monotonic() - began < 1.0
