"""A goal that a benchmark misses makes its exit status 1, or is at least printed. What it would
have measured is made up. And that each can be begun."""

import copy
import pathlib
import re
import subprocess
import types

import pytest
import memif  # noqa: F401  (finds bench/)
import peers
import ping_pairs
import scale
import storm
import unrest
from crowd import run_command
from lab.netns import LabError

CONTROL = {"handshakes_accepted": 0, "handshakes_limited": 0, "handshakes_crowded_out": 0,
           "cookies_sent": 0, "worker_ring_full": 0, "handshakes_rejected": {}}
MOMENT = types.SimpleNamespace(status={"control": CONTROL, "worker": {"drops": {}}},
                               resident_mib=1, hugepages_mib=2)
COUNTS = {"outbound_packets": 500, "inbound_packets": 500, "control_s": 0, "roamed": 3}


class Threads:
    CONTROL_S = 0.001

    def used(self, _):
        return {"control": self.CONTROL_S}


def trial(**values):
    order = {"sent": 1, "received": 1, "reordered": 0}
    return {"seconds": 1, "connected": 10, "connecting_seconds": 1, "tsc_hz": 2e9, "loss": 0,
            "lost": 0, "received_mpps": 0, "connecting_s": {"p50": 0, "max": 0},
            "roaming": {"roamed": 3, "lost": 0}, "churn": {"left": 2, "returned": 2, "lost": 0},
            "outbound": order, "inbound": order, "gateway": COUNTS | {"busy_cycles": 1000},
            "before": MOMENT, "after": MOMENT, "threads": Threads()} | values


def change(result, path, value):
    result = copy.deepcopy(result)
    *way, last = path
    at = result
    for name in way:
        at = at[name]
    at[last] = value
    return result


def exit_status(monkeypatch, bench, results, *words):
    monkeypatch.setattr(bench, "run_trials", lambda *_, **__: results)
    monkeypatch.setattr("crowd.remove_leftovers", lambda: None)
    options = [("--clients", {"type": int, "default": 10}), ("--load", {"default": 1}),
               ("--roam", {"default": 1}), ("--churn", {"default": 1}), ("--seconds", {"default": 1}),
               ("--control-threads", {"default": 1})]
    return run_command("made up", "", list(words), options, bench.measure)


@pytest.mark.parametrize("path,value", [
    (None, None), (["connected"], 9), (["loss"], 0.002), (["outbound", "reordered"], 1),
    (["gateway", "busy_cycles"], 1e7)], ids=str)
def test_storm(monkeypatch, capsys, path, value):
    coming = change(trial(), path, value) if path else trial()
    status = exit_status(monkeypatch, storm, [trial(), {"seconds": 1}, trial(), coming])
    assert status == (1 if path else 0)
    assert ("missed" in capsys.readouterr().out) == bool(path)


def test_storm_whose_control_thread_is_too_slow(monkeypatch, capsys):
    monkeypatch.setattr(Threads, "CONTROL_S", 0.0021)  # 210 us a client
    assert exit_status(monkeypatch, storm, [trial(), {"seconds": 1}, trial(), trial()]) == 1
    assert "1 of 5 goals missed" in capsys.readouterr().out


@pytest.mark.parametrize("path,value", [
    (None, None), (["lost"], 1), (["inbound", "reordered"], 1), (["churn", "returned"], 1),
    (["gateway", "roamed"], 2)], ids=str)
def test_unrest(monkeypatch, capsys, path, value):
    moving = change(trial(), path, value) if path else trial()
    assert exit_status(monkeypatch, unrest, [trial(), moving]) == (1 if path else 0)
    assert ("missed" in capsys.readouterr().out) == bool(path)


def datapath(rise=0.02, share=0, heartbeats=0.01, gib=5):
    """What build/bench/datapath would say."""
    def say(*words):
        if "--flood" in words:
            return [{"bench": "flooded", "refused": {"rise": 0.01}, "answered": {"rise": rise}}]
        packets = [{"bench": "datapath", "direction": direction, "cycles_min": 70,
                    "cycles_median": 75,
                    "handed_over_share": 0.5 if "--unsteered" in words else share,
                    "resident_bytes": gib << 30, "tunnels": 1, "flows": 16}
                   for direction in scale.DIRECTIONS]
        if "--ageing" not in words:
            return packets
        idle = [{"bench": "sweep", "core_share": 0.003}, {"bench": "followed", "core_share": 0.004}]
        return packets + idle + [
            {"bench": "heartbeat", "burst": burst, "core_share": heartbeats / burst,
             "cycles_median": 900, "cipher_cycles": 800} for burst in (1, 64)]
    return say


@pytest.mark.parametrize("what", [{}, {"rise": 0.06}, {"share": 0.01}, {"heartbeats": 0.014},
                                  {"gib": 9}], ids=str)
def test_scale(monkeypatch, capsys, what):
    monkeypatch.setattr(scale, "datapath", datapath(**what))
    monkeypatch.setattr(scale, "available_gib", lambda: 100)
    monkeypatch.setattr(scale, "has_hugepages", lambda: False)
    assert scale.main([]) == (1 if what else 0)
    assert ("1 of 5 goals missed" in capsys.readouterr().out) == bool(what)


def comparison(times_slower):
    """Of pings whose slowest differ tenfold from one round to the next, for both alike."""
    theirs = [[100] * 98 + [noise * 300] * 2 for noise in (1, 10, 2, 7, 3)]
    ours = [[times_slower * taken for taken in times] for times in theirs]
    return ping_pairs.Comparison(ours, theirs)


@pytest.mark.parametrize("of_ours,times_slower,says", [
    ({}, 1, "met"), ({"tcp_up_gbps": 1.3}, 1, "missed"), ({}, 1.01, "missed")], ids=str)
def test_peers(capsys, of_ours, times_slower, says):
    def row(peer, protection, **values):
        return {"peer": peer, "protection": protection, "tcp_up_gbps": 2, "tcp_down_gbps": 2,
                "udp64_up_kpps": 100, "udp64_down_kpps": 100} | values
    slow = {"tcp_up_gbps": 0.4, "tcp_down_gbps": 0.4, "udp64_up_kpps": 30, "udp64_down_kpps": 30}
    goals = peers.show_goals(
        [row("wireguard-go", "chacha20-poly1305", **slow), row("openvpn", "aes-256-gcm", **slow),
         row("adit", "aes-256-gcm", **of_ours)], comparison(times_slower))
    printed = capsys.readouterr().out
    assert printed.count("(goal") == 7
    assert ("missed" in printed) == (says == "missed")
    assert goals.exit_status() == (says == "missed")


def test_pings_are_compared_round_by_round():
    assert comparison(1.2).describe(99) == (
        "p99 1080 against 900 µs, 1.20 x (1.20 to 1.20), lower in 0 of 5 rounds")
    assert comparison(0.5).describe(50).endswith("0.50 x (0.50 to 0.50), lower in 5 of 5 rounds")


@pytest.mark.parametrize("lower,says", [(0, "missed"), (4, "missed"), (5, "met"), (9, "met")])
def test_the_median_round_decides(capsys, lower, says):
    """However much a few rounds differ, and however close it is."""
    theirs = [[100] * 100] * 9
    ours = [[10] * 100] * lower + [[101] * 100] * (9 - lower)
    peers.show_goals([], ping_pairs.Comparison(ours, theirs))
    assert f"(goal <= 1 x: {says})" in capsys.readouterr().out


class FakePinger:
    def __init__(self, turns, name, taken_us):
        self.turns, self.name, self.taken_us = turns, name, taken_us

    def round_trip_us(self):
        self.turns.append(self.name)
        return self.taken_us


def test_pings_take_turns(monkeypatch):
    """Whoever begins a pair: neither has always the other in front of it."""
    monkeypatch.setattr(ping_pairs, "PAUSE_S", (0, 0))
    turns = []
    pingers = FakePinger(turns, "ours", 300), FakePinger(turns, "theirs", 100)
    assert ping_pairs.measure_round(pingers, 100) == [[300] * 100, [100] * 100]
    pairs = list(zip(turns[::2], turns[1::2]))
    assert set(pairs) == {("ours", "theirs"), ("theirs", "ours")}


def test_a_lost_ping_took_as_long_as_it_was_waited_for(monkeypatch):
    """Or the tunnel that loses its slowest would look faster."""
    monkeypatch.setattr(ping_pairs, "PAUSE_S", (0, 0))
    ours, theirs = FakePinger([], "ours", 300), FakePinger([], "theirs", 100)
    answers = iter([None] + [300] * 99)
    monkeypatch.setattr(ours, "round_trip_us", lambda: next(answers))
    taken, _ = ping_pairs.measure_round((ours, theirs), 100)
    assert taken == [ping_pairs.PATIENCE_S * 1e6] + [300] * 99


def test_pings_without_answers_are_no_measurement(monkeypatch):
    monkeypatch.setattr(ping_pairs, "PAUSE_S", (0, 0))
    pingers = FakePinger([], "ours", None), FakePinger([], "theirs", 100)
    with pytest.raises(LabError, match="0 of 100 pings were answered"):
        ping_pairs.measure_round(pingers, 100)


BENCH = pathlib.Path(scale.__file__).parent
STARTER = (BENCH.parent / "scripts/bench").read_text()
PROGRAMS = sorted(set(re.findall(r"/bench/(\w+)\.py", STARTER)) | {"storm", "flood", "unrest"})


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_can_be_begun(name):
    done = subprocess.run(["/usr/bin/python3", "-B", BENCH / f"{name}.py", "--help"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert "usage:" in done.stdout.lower() and "Traceback" not in done.stdout, done.stdout
