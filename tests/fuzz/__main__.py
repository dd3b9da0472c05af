"""Fuzzes every reader of files for a while, with atheris: python -m tests.fuzz [SECONDS [TARGET …]]

Without SECONDS for a minute, on the same contents each time. Exits with 1 and names the file that
shows it when anything but the package's own errors comes out, when one content takes more than 20
seconds, or more than 2 GB of memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS

ARTIFACTS = Path("build", "fuzz")
_SECONDS, _LONGEST, _MEGABYTES = 60, 20, 2048


def main(arguments: list[str]) -> int:
    seconds = int(arguments[0]) if arguments else _SECONDS
    names = arguments[1:] or [name for name, target in TARGETS.items() if target.in_ci]
    # The same contents each time in CI; others when somebody looks for longer.
    seed = 0 if arguments else 1
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="onnxnorm-corpus-") as corpus:
            for number, content in enumerate(TARGETS[name].seeds()):
                Path(corpus, str(number)).write_bytes(content)
            options = [
                f"-max_total_time={max(1, seconds // len(names))}",
                f"-seed={seed}",
                f"-timeout={_LONGEST}",
                f"-rss_limit_mb={_MEGABYTES}",
                f"-artifact_prefix={ARTIFACTS}/{name}-",
                "-print_final_stats=1",
            ]
            one = [sys.executable, "-m", "tests.fuzz.one", name, *options, corpus]
            outcome = subprocess.run(one, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = outcome.stdout.decode("utf-8", "replace").splitlines()
        if outcome.returncode:
            found.append(name)
            print(*said[-100:], sep="\n")
        runs = [line.split()[-1] for line in said if "number_of_executed_units" in line]
        print(f"{name}: {', '.join(runs) or 'some'} contents read", flush=True)
    print(f"fuzz: findings in {', '.join(found)}: see {ARTIFACTS}" if found else "fuzz: no finding")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
