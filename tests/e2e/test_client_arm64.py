"""The client's sources compile for 64-bit ARM, without a warning. They are not linked: Debian's ARM
libraries cannot stand beside this machine's own (docs/client.md says how a whole program is made).
"""

import re
import subprocess
import time

import pytest
from lab.programs import BUILD, ROOT

ARM64 = BUILD / "arm64-client"
BUILD_S_MAX = 240  # of the first time; then a few
MACHINE = "AArch64"

# It compiles, with all the cores there are.
pytestmark = [pytest.mark.alone, pytest.mark.timeout(BUILD_S_MAX + 30)]

# The headers of the libraries are this machine's, for they are the same for both. Nothing runs, so
# nothing is optimized.
CROSS_FILE = """
[binaries]
cpp = 'aarch64-linux-gnu-g++'
pkgconfig = 'pkg-config'

[properties]
pkg_config_libdir = '{libraries}'
needs_exe_wrapper = true

[built-in options]
cpp_args = [{includes}'-O0']

[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
"""


def output(*command, **arguments):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          **arguments).stdout


def write_cross_file(path):
    libraries = output("pkg-config", "--variable", "pc_path", "pkg-config").strip()
    triplet = output("g++", "-print-multiarch").strip()
    includes = f"'-idirafter', '/usr/include/{triplet}', "
    path.write_text(CROSS_FILE.format(libraries=libraries, includes=includes))


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Of all that goes into the program; kept, so that what has not changed is compiled once."""
    began_s = time.monotonic()
    if not (ARM64 / "build.ninja").exists():
        cross_file = tmp_path_factory.mktemp("arm64") / "arm64.ini"
        write_cross_file(cross_file)
        output("meson", "setup", ARM64, ROOT, "--cross-file", cross_file, "-Dgateway=disabled",
               "-Dtests=false", "-Dmarch=armv8-a")
    names = [name for name in output("ninja", "-C", ARM64, "-t", "inputs",
                                     "client-lite/adit-client").split() if name.endswith(".o")]
    done = subprocess.run(["ninja", "-C", ARM64, *names], stdout=subprocess.PIPE, text=True,
                          timeout=BUILD_S_MAX)
    assert done.returncode == 0, done.stdout
    print(f"{len(names)} sources compiled for {MACHINE} in {time.monotonic() - began_s:.1f} s")
    return names


def test_every_source_of_the_client_compiles(objects):
    sources = {path.name for path in (ROOT / "client-lite").glob("*.cpp")}
    compiled = {re.split("/|client-lite_", name)[-1].removesuffix(".o") for name in objects}
    assert sources <= compiled
    for name in objects:
        assert MACHINE in output("readelf", "-h", ARM64 / name), name
