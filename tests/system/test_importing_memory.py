"""A million rows in constant memory (I3)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.shared.settings import ROOT
from tests.support import present

GROWTH_MIB = 60  # the count of leads holds up to 32 MiB of them in memory


def peak(folder: Path, rows: int) -> float:
    """MiB that a dry run of so many rows took at most."""
    file, plan = folder / f"{rows}.csv", folder / "map.yaml"
    with file.open("w") as stream:
        stream.write("E-mail,Id,Name,At,OK\n")
        stream.writelines(
            f"p{n}@x{n % 999}.example,{n},Ann {n},2026-03-04 10:{n % 60:02d},yes\n"
            for n in range(rows)
        )
    plan.write_text(
        "kind: leads\nemail: E-mail\nexternal_id: Id\ntime: At\ntraits: {name: Name}\nconsent: "
        "OK\noutcome: {column: OK}\n"
    )
    command = [
        sys.executable,
        "-m",
        "services.ops",
        "import",
        str(file),
        "--mapping",
        str(plan),
        "--dry-run",
        "--json",
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=present.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout
    report = json.loads(process.stdout.read())
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, report["accepted"], report["leads"]) == (0, rows, rows)
    return used.ru_maxrss / 1024


@pytest.mark.long
def test_a_million_rows_take_hardly_more_memory_than_ten_thousand(tmp_path: Path) -> None:
    few = peak(tmp_path, 10_000)
    assert peak(tmp_path, 1_000_000) - few < GROWTH_MIB
