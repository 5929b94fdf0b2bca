"""The client's sources compile for other processors, without a warning: 64-bit and 32-bit ARM. They
are not linked: Debian's ARM libraries cannot stand beside this machine's own (docs/client.md says
how a whole program is made, and its unit tests run).
"""

import re
import subprocess
import time
from dataclasses import dataclass

import pytest
from lab.programs import BUILD, ROOT

BUILD_S_MAX = 240  # of the first time; then a few

# It compiles, with all the cores there are.
pytestmark = [pytest.mark.alone, pytest.mark.timeout(BUILD_S_MAX + 30)]


@dataclass
class Architecture:
    name: str
    triplet: str
    family: str  # as Meson calls it
    march: str
    machine: str  # as readelf calls it


ARCHITECTURES = [
    Architecture("arm64", "aarch64-linux-gnu", "aarch64", "armv8-a", "AArch64"),
    Architecture("armhf", "arm-linux-gnueabihf", "arm", "armv7-a+fp", "ARM"),
]

# The headers of the libraries are this machine's, for they are the same for all. Nothing runs or is
# looked into, so nothing is optimized or described.
CROSS_FILE = """
[binaries]
cpp = '{triplet}-g++'
pkgconfig = 'pkg-config'

[properties]
pkg_config_libdir = '{libraries}'
needs_exe_wrapper = true

[built-in options]
cpp_args = ['-idirafter', '/usr/include/{here}', '-O0', '-g0']

[host_machine]
system = 'linux'
cpu_family = '{family}'
cpu = '{family}'
endian = 'little'
"""


def output(*command, **arguments):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          **arguments).stdout


def set_up(architecture, directory, cross_file):
    libraries = output("pkg-config", "--variable", "pc_path", "pkg-config").strip()
    here = output("g++", "-print-multiarch").strip()
    cross_file.write_text(CROSS_FILE.format(
        triplet=architecture.triplet, libraries=libraries, here=here, family=architecture.family))
    output("meson", "setup", directory, ROOT, "--cross-file", cross_file, "-Dgateway=disabled",
           "-Dtests=false", f"-Dmarch={architecture.march}")


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)
def test_every_source_of_the_client_compiles(architecture, tmp_path):
    """What is compiled is kept, so that what has not changed is compiled once."""
    began_s = time.monotonic()
    directory = BUILD / f"{architecture.name}-client"
    if not (directory / "build.ninja").exists():
        set_up(architecture, directory, tmp_path / "cross.ini")
    objects = [name for name in output("ninja", "-C", directory, "-t", "inputs",
                                       "client-lite/adit-client").split() if name.endswith(".o")]
    done = subprocess.run(["ninja", "-C", directory, *objects], stdout=subprocess.PIPE, text=True,
                          timeout=BUILD_S_MAX)
    assert done.returncode == 0, done.stdout
    print(f"{len(objects)} sources compiled for {architecture.name} in "
          f"{time.monotonic() - began_s:.1f} s")
    sources = {path.name for path in (ROOT / "client-lite").glob("*.cpp")}
    compiled = {re.split("/|client-lite_", name)[-1].removesuffix(".o") for name in objects}
    assert sources <= compiled
    for name in objects:
        header = output("readelf", "-h", directory / name)
        assert re.search(rf"Machine: +{architecture.machine}$", header, re.MULTILINE), header
