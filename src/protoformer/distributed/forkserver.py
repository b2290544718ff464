"""Imported by the forkserver at its start (`multiprocessing.set_forkserver_preload`): it ends with the rank that started it."""

import os

from protoformer.distributed.children import end_with_parent

end_with_parent(os.getppid())
