"""python -m cuda_train.dpo …  is  livery dpo --backend torch …

Several processes: torchrun --nproc-per-node 2 -m cuda_train.dpo …
"""

from __future__ import annotations

import sys

from livery.cli import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "dpo", "--backend", "torch", *sys.argv[1:]]
    main()
