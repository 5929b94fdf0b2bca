"""What is installed beside adit-client: the man page, the completion, the systemd unit and its
user. (test_client_unit.py runs the unit.)"""

import re
import subprocess

import pytest
from lab.programs import BUILD, CLIENT_PROGRAM, ROOT

PACKAGE = ROOT / "client-lite" / "package"
PAGE = PACKAGE / "adit-client.8"
UNIT = BUILD / "client-lite" / "adit-client@.service"
EXPOSURE_MAX = 2.0  # of 10; a service without any restriction has 9.6


def run(*command, **arguments):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True,
                          timeout=60, **arguments)


def words_of_help(pattern, *command):
    found = re.findall(pattern, run(CLIENT_PROGRAM, *command, "--help").stdout, re.MULTILINE)
    assert found
    return set(found)


def flags_of(*command):
    return words_of_help(r"^\s+(?:-\w,)?(--[a-z-]+)", *command)


def commands():
    return words_of_help(r"^  ([a-z]+)  ")


def completions(*words):
    script = (f'source "{PACKAGE}/adit-client.bash"; COMP_WORDS=("$@"); '
              'COMP_CWORD=$(($# - 1)); _adit_client; printf "%s\\n" "${COMPREPLY[@]}"')
    done = run("bash", "-c", script, "bash", "adit-client", *words, cwd=PACKAGE)
    assert done.returncode == 0 and done.stderr == ""
    return set(done.stdout.split())


def test_the_man_page_is_without_warnings():
    done = run("man", "--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", "-Z", PAGE)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_man_page_has_every_command_and_flag():
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", run(
        "man", "-P", "cat", "-l", PAGE,
        env={"MANWIDTH": "100", "LANG": "C", "PATH": "/usr/bin:/bin"}).stdout)
    entries = re.findall(r"^ {7}(\S.*)$", text[text.index("\nCOMMANDS"):text.index("\nFILES")],
                         re.MULTILINE)
    described = {word for entry in entries for word in re.findall(r"(?<![\w-])[a-z-]+", entry)}
    assert commands() | flags_of() <= described


def test_completion_offers_every_command_and_flag():
    assert completions("") == commands() | flags_of()
    assert completions("st") == {"status"}
    assert completions("up", "--") == flags_of()
    for command in ("status", "import", "genkey"):
        assert completions(command, "--") >= flags_of(command), command
    assert completions("--protection", "") == {"aes-256-gcm", "chacha20-poly1305", "plain"}
    assert "adit-client.8" in completions("--config", "adit")
    assert completions("--mtu", "") == set()


@pytest.fixture
def unit(tmp_path):
    """The unit as it would be verified on a machine that has the program, and its path."""
    path = tmp_path / "adit-client@test.service"
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={CLIENT_PROGRAM}", UNIT.read_text())
    path.write_text(text.replace("Documentation=man:adit-client(8)\n", ""))
    return path


def test_systemd_finds_nothing_wrong_with_the_unit(unit):
    done = run("systemd-analyze", "verify", unit)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("RestartSec=2", "RestartSex=2"))
    assert "RestartSex" in run("systemd-analyze", "verify", unit).stderr, "it would notice"


def test_systemd_finds_little_that_the_unit_is_exposed_to(unit):
    done = run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    exposure = float(re.search(r"Overall exposure level.*: ([\d.]+)", done.stdout)[1])
    print(f"exposure: {exposure} (bound {EXPOSURE_MAX})")
    assert exposure <= EXPOSURE_MAX


def test_the_units_user_is_made_by_sysusers(tmp_path):
    user = re.search(r"^User=(.*)$", UNIT.read_text(), re.MULTILINE)[1]
    (tmp_path / "etc").mkdir()
    shipped = (PACKAGE / "adit-client.sysusers").read_text()
    done = run("systemd-sysusers", f"--root={tmp_path}", "-", input=shipped)
    assert done.returncode == 0, done.stderr
    name, _, number, _, _, home, shell = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (name, home, shell) == (user, "/var/lib/adit", "/usr/sbin/nologin")
    assert 0 < int(number) < 1000, "a system's user"
    assert f'subject.user == "{user}"' in (PACKAGE / "adit-client.rules").read_text()


def test_the_unit_restarts_what_failed_but_not_a_mistake_and_keeps_what_undoes():
    settings = re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)
    wanted = {"Restart": "on-failure", "RestartPreventExitStatus": "2", "RuntimeDirectory": "adit",
              "RuntimeDirectoryPreserve": "yes", "StateDirectory": "adit", "User": "adit-client",
              "AmbientCapabilities": "CAP_NET_ADMIN",
              "CapabilityBoundingSet": "CAP_NET_ADMIN", "DeviceAllow": "/dev/net/tun rw",
              "KillMode": "mixed"}
    assert {name: value for name, value in settings if name in wanted} == wanted
    # A mistake is the status that the client has for one.
    mistaken = run(CLIENT_PROGRAM, "--check", "--config", "/nowhere/at/all.yaml")
    assert str(mistaken.returncode) == wanted["RestartPreventExitStatus"]
