"""The logs of `ripeline up` stay below a size while their processes go on writing."""

import subprocess
import sys
from pathlib import Path

from services.ops.embedded.supervision import rotate


def test_a_log_is_moved_away_and_its_process_goes_on_in_the_same_file(tmp_path: Path) -> None:
    log = tmp_path / "scorer-0.log"
    program = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n"
    with log.open("ab") as file:
        writer = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=file, text=True
        )
    assert writer.stdin

    def write(text: str) -> None:
        assert writer.stdin
        size = log.stat().st_size
        writer.stdin.write(f"{text}\n")
        writer.stdin.flush()
        while log.stat().st_size == size:
            pass

    write("a" * 100)
    rotate(log, 200)
    assert not (tmp_path / "scorer-0.log.1").exists()
    write("b" * 150)
    rotate(log, 200)
    write("c")
    writer.stdin.close()
    writer.wait()
    assert log.read_text() == "c\n"
    assert (tmp_path / "scorer-0.log.1").read_text() == f"{'a' * 100}\n{'b' * 150}\n"
