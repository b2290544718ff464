"""`train.py` on a machine where things go wrong: signals at named calls, another clock, a slow disk; in a session of its own.

The environment variable SOAK holds the faults as JSON, see `faults.Faults`.
"""

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from faults import install, install_methods

install()

from protoformer.distributed import signals  # noqa: E402

if __name__ == "__main__":
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    with signals.listen():
        install_methods()
        from protoformer.commands.train import main

        raise SystemExit(main())
