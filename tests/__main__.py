"""`python -m tests [OPTION OF PYTEST…]`: all suites, in two processes of pytest side by side.

The system tests mostly wait for services, browsers and timeouts; the other suites use the time.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.servers import SCRIPT

HERE = Path(__file__).parent
SYSTEM = [str(HERE / "system")]
OTHERS = [str(HERE), f"--ignore={HERE / 'system'}"]


def main(options: list[str]) -> int:
    """Runs both; the output of the system tests comes first. Returns the greater exit code."""
    began = time.monotonic()
    # Once, before both need them.
    subprocess.run([SCRIPT, "jars"], check=True, stdout=subprocess.DEVNULL)
    # Beside them; the tests of these clients wait for it.
    clients = subprocess.Popen(
        ["nice", sys.executable, "-m", "tests.support.official_clients"], stderr=subprocess.DEVNULL
    )
    with tempfile.TemporaryFile() as output:
        others = subprocess.Popen(
            _pytest(OTHERS, options), stdout=output, stderr=output, env=_with_ports("10000-19999")
        )
        try:
            code = subprocess.run(
                _pytest(SYSTEM, options), check=False, env=_with_ports("20000-31999")
            ).returncode
        finally:
            other_code = others.wait()
            clients.wait()
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
    print(f"all suites: {time.monotonic() - began:.0f} s")
    return max(code, other_code)


def _with_ports(ports: str) -> dict[str, str]:
    """Our environment, with ports that the other process does not use."""
    return os.environ | {"RIPELINE_TEST_PORTS": ports}


def _pytest(places: list[str], options: list[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *places, *options]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
