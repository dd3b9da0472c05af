"""The CUDA kernels in the emulation under the address and undefined behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys

from tools.emulated import ROOT

_PROGRAM = """
from tools.cuda_cases import CASES
from tools.emulated import Machine, run
for name, case in CASES.items():
    for element in ("float32", "float16"):
        for offset in (0, 1):
            given = case.values(mean=1.0)
            machine = Machine("shuffled", seed=3, multiprocessors=4, shared_per_block=40 << 10)
            run(case.operator, *given, element, residual=given[0], machine=machine, offset=offset,
                activation="Relu", **case.attributes)
print("ran", len(CASES))
"""


def test_no_access_out_of_bounds() -> None:
    runtime = [
        subprocess.run(
            ["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtime),
        # Python itself leaks on purpose.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1",
        "ONNXNORM_EMULATION_SANITIZE": "address,undefined",
    }
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("ran ")
