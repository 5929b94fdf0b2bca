"""adit-gateway --check: exit status and what it says. Nothing is started, so nothing is needed."""

import re

import pytest
from lab.programs import GATEWAY_PROGRAM, make_keys, write_config


@pytest.fixture
def keys(lab):
    return make_keys(lab, ["gateway", "pc"])


@pytest.fixture
def config(keys):
    return {
        "ports": [{"name": "wan", "device": "net_null0", "address": "30.1.1.10/24"}],
        "tunnel": {"private_key_file": str(keys["gateway"].private_file)},
        "pools": [{"name": "clients", "network": "192.168.1.0/24"}],
        "subscribers": [{"name": "pc", "public_key": keys["pc"].public}],
    }


def check(lab, config):
    path = write_config(lab, "checked", config)
    return lab.host(GATEWAY_PROGRAM, "--config", path, "--check", check=False)


def test_a_good_configuration_is_described_with_status_0(lab, config):
    done = check(lab, config)
    assert done.returncode == 0, done.stderr
    assert "30.1.1.10:8000" in done.stdout


def test_every_error_is_listed_at_its_place_with_status_2(lab, config):
    config["ports"][0]["colour"] = "red"
    config["ports"][0]["mtu"] = "large"
    config["pools"].append({"name": "more", "network": "192.168.1.128/25"})
    config["tunnel"]["private_key_file"] = str(lab.directory / "absent.key")
    done = check(lab, config)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if re.match(r".+:\d+:\d+: \S+: .", line)]
    assert len(lines) == 4, done.stderr
    for path in ("ports[0].colour", "ports[0].mtu", "pools[1].network",
                 "tunnel.private_key_file"):
        assert any(f": {path}: " in line for line in lines), path


def test_deterministic_ports_are_told_both_ways(lab, config):
    config["nat"] = {"allocation": "deterministic", "external": ["30.1.1.20"]}
    path = write_config(lab, "deterministic", config)
    done = lab.host(GATEWAY_PROGRAM, "--config", path, "--ports-of", "pc", check=False)
    assert (done.returncode, done.stdout) == (
        0, "pc has 30.1.1.20 ports 1024-2047 of UDP, TCP and ICMP\n")
    done = lab.host(GATEWAY_PROGRAM, "--config", path, "--who-has", "30.1.1.20:2047", check=False)
    assert (done.returncode, done.stdout) == (0, "pc has 30.1.1.20 ports 1024-2047\n")


def test_random_ports_are_said_to_be_unknown(lab, config):
    path = write_config(lab, "random", config)
    for question in ("--ports-of", "pc"), ("--who-has", "30.1.1.10:2047"):
        done = lab.host(GATEWAY_PROGRAM, "--config", path, *question, check=False)
        assert done.returncode == 1 and done.stdout == ""
        assert "nat.allocation is random" in done.stderr


def test_a_key_that_others_can_read_is_refused(lab, keys, config):
    keys["gateway"].private_file.chmod(0o644)
    done = check(lab, config)
    assert done.returncode == 2
    assert "tunnel.private_key_file" in done.stderr


def test_a_bad_configuration_starts_nothing(lab, config):
    config["pools"] = []
    path = write_config(lab, "bad", config)
    done = lab.host(GATEWAY_PROGRAM, "--config", path, check=False)
    assert done.returncode == 2
    assert "EAL" not in done.stderr
