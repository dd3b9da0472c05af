"""``python -m onnxnorm``: the command line."""

import sys

from onnxnorm.cli import main

sys.exit(main())
