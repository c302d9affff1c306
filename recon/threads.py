"""What must be settled before torch is loaded, and loading it.

Make the worker threads of torch and of the kernels sleep while the others work. Both keep a pool of OpenMP threads. By
default idle workers spin and take the processors from the pool that has work to do: a reconstruction that alternates
between the two was measured 17 times slower on two busy cores. OpenMP reads its settings when it is loaded, so this
module comes before torch; a setting of the user's own stays.

Loading torch makes a great many objects and no garbage: with the collector paused it takes a fifth less time.
"""

import gc
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_collecting = gc.isenabled()
gc.disable()
import torch  # noqa: E402, F401

if _collecting:
    gc.enable()
