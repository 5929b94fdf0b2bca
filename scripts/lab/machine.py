"""A machine with a systemd of its own, in one of the lab's networks, so that units run as they do
where they are installed: under their user, with their rights and restrictions. It boots in a
fraction of a second, since it has no other units than it is given.
"""

import pathlib
import re
import shutil
import signal
import subprocess

from lab.netns import LabError, wait_until

BOOT = pathlib.Path(__file__).resolve().parent / "boot-machine"
UNITS = pathlib.Path("usr/lib/systemd/system")
# The points in the boot that units refer to; nothing of this machine's belongs to them.
TARGETS = ("sysinit", "basic", "sockets", "network", "network-online", "nss-lookup", "shutdown",
           "multi-user", "default")


class Machine:
    """Use it as a context: it ends with all that runs on it."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.lab = namespace.lab
        self.files = self.lab.directory / "machine"  # laid over its /usr, and its whole /etc
        self.files.mkdir()
        self.units = self.files / "etc/systemd/system"
        self.log = self.files / "units.log"  # what its services say
        self.log.touch()
        self.process = None
        self._mounted = None  # the control groups, where this machine has not mounted them
        groups = cgroups() or self._mount_cgroups()
        self._cgroup = groups / self.files.parent.name
        remove_leftovers(groups)
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        self.write("etc/machine-id", "")
        (self.files / "usr").mkdir()
        self.unit("service.d/log.conf",
                  "[Service]\nStandardOutput=append:/run/units.log\nStandardError=inherit\n")
        for name in TARGETS:
            self.unit(f"{name}.target", "[Unit]\nDefaultDependencies=no\n")
        self.start_with("basic.target")

    def write(self, path, text, mode=0o644):
        """A file of the machine's, below /etc or /usr, before it boots."""
        file = self.files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def unit(self, name, text):
        self.write(self.units.relative_to(self.files) / name, text)

    def start_with(self, *names):
        """It is booted when these units, too, have started: its own, or those of a package, whether
        that is laid over /usr or this machine's."""
        for name in names:
            for directory in (self.files / UNITS, "/" / UNITS):
                if not (self.units / name).exists() and (directory / name).exists():
                    shutil.copy(directory / name, self.units)
        self.unit(f"default.target.d/{names[0]}.conf",
                  f"[Unit]\nWants={' '.join(names)}\nAfter={' '.join(names)}\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            if self.process:
                self.process.stop(signal.SIGKILL)
            wait_until(lambda: remove(self._cgroup), 10, "the machine's processes to be gone")
        finally:
            if self._mounted:
                self.lab.host("umount", self._mounted)

    def _mount_cgroups(self):
        self._mounted = self.lab.directory / "cgroups"
        self._mounted.mkdir()
        self.lab.host("mount", "-t", "cgroup2", "cgroup2", self._mounted)
        return self._mounted

    def boot(self):
        self._cgroup.mkdir()
        self.process = self.lab.start(
            "machine", [BOOT, self.files, self.namespace.full_name, self._cgroup])
        wait_until(self._is_booted, 10, lambda: f"the machine to boot\n{self.process.log()}")

    def _is_booted(self):
        if self.process.exit_status is not None:
            raise LabError(f"the machine did not boot:\n{self.process.log()}")
        try:
            done = self.run("systemctl", "is-active", "default.target", check=False)
        except LabError:
            return False
        return done.stdout == "active\n"

    def _first_process(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = children.read_text().split()
        # Until then it still sees this machine's root.
        if not found or pathlib.Path(f"/proc/{found[0]}/comm").read_text() != "systemd\n":
            raise LabError("systemd has not begun on the machine")
        return found[0]

    def run(self, *command, check=True, user=None, stdin=None):
        """Runs a command on the machine, as root or as `user`; as Namespace.run()."""
        runner = ["setpriv", f"--reuid={user}", "--clear-groups"] if user else []
        return self.lab.host("nsenter", "-a", "-t", self._first_process(), *runner, *command,
                             check=check, stdin=stdin)

    def show(self, unit, what):
        """A property of a unit's, such as MainPID; that is the machine's number for it."""
        return self.run("systemctl", "show", "--value", "-p", what, unit).stdout.strip()


def cgroups():
    """Where this machine has the control groups of version 2, or None."""
    mounts = pathlib.Path("/proc/mounts").read_text()
    match = re.search(r"^\S+ (\S+) cgroup2 rw", mounts, re.MULTILINE)
    return match and pathlib.Path(match[1])


def remove(cgroup):
    """With those in it. False while there are processes."""
    try:
        for path in [*sorted(cgroup.rglob("*/"), reverse=True), cgroup]:
            path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_leftovers(groups):
    """Those of runs that were killed."""
    for cgroup in groups.glob("adit-*"):
        owner = re.match(r"adit-[a-z]+-(\d+)-", cgroup.name)
        if owner and not pathlib.Path(f"/proc/{owner[1]}").exists():
            remove(cgroup)
