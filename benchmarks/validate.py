"""How long predictions take: one case when warm, and a table of 1,000 rows from the command line.

python benchmarks/validate.py [TABLE]
"""

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from corral.cli.validate import read_table
from corral.planner.speed.predict import predict

ROOT = Path(__file__).parent.parent
ROWS = 1000


def main() -> None:
    """Measure and print."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "measured" / "measured.csv"
    rows, _ = read_table(source)
    for row in rows:
        predict(row.case)
    start = time.perf_counter()
    for row in rows:
        predict(row.case)
    print(f"one prediction, warm: {(time.perf_counter() - start) / len(rows) * 1e6:.0f} us")
    with source.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))[: ROWS + 1]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows(lines)
        table.flush()
        start = time.perf_counter()
        command = [str(Path(sys.executable).with_name("corral")), "validate", table.name, "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"corral validate, {len(lines) - 1} rows: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
