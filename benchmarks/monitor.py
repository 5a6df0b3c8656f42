"""The page and its server beside trackio's: charts, live steps, bytes, memory, and what is kept of a log.

    python benchmarks/monitor.py [--quick] [--json] [--most STEPS] [--only curves streams lists browser]

Both servers run as processes of their own over the same numbers and are asked in turn. The full run takes
about ten minutes, most of them to write and open ten million steps; --quick two. Needs the dev extra, and for
`browser` Chromium (FETTLE_CHROMIUM or /usr/bin/chromium).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from monitoring import browser, curves, lists, streams
from monitoring.report import HEADER, Row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--most", type=int, default=10_000_000, help="steps of the longest run")
    parser.add_argument("--only", nargs="+", choices=["curves", "streams", "lists", "browser"])
    arguments = parser.parse_args()
    less = 10 if arguments.quick else 1
    parts: dict[str, Callable[[Path], list[Row]]] = {
        "curves": lambda folder: curves.measure(folder, 1_000_000 // less, arguments.most // less, 5),
        "streams": lambda folder: streams.measure(folder),
        "browser": lambda folder: browser.measure(folder, 100 // (2 if arguments.quick else 1)),
        "lists": lambda folder: lists.measure(folder, 1_000, 1_000_000 // less),
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in parts.items():
            if arguments.only is None or name in arguments.only:
                part = Path(folder) / name
                part.mkdir()
                found = measure(part)
                rows += found
                if not arguments.json:
                    # As soon as it is known: who stops it loses no table.
                    print("\n".join([HEADER, *(row.line() for row in found)]), flush=True)
    if arguments.json:
        print(json.dumps([row.to_json() for row in rows], indent=2))


if __name__ == "__main__":
    main()
