"""`train.py` on a machine where things go wrong: killed at a named call, with another clock, on a slow disk.

The environment variable SOAK holds the faults as JSON, see `faults.Faults`. Ranks import this file again, and have the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from faults import install

install()

from protoformer.distributed import signals  # noqa: E402

if __name__ == "__main__":
    with signals.listen():
        from protoformer.commands.train import main

        raise SystemExit(main())
