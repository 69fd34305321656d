"""python -m cuda_train …  is  livery train --backend torch …

Several processes: torchrun --nproc-per-node 2 -m cuda_train …
"""

from __future__ import annotations

import sys

from livery.cli import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "train", "--backend", "torch", *sys.argv[1:]]
    main()
