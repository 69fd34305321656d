"""python -m mlx_train.dpo …  is  livery dpo --backend mlx …"""

from __future__ import annotations

import sys

from livery.cli import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "dpo", "--backend", "mlx", *sys.argv[1:]]
    main()
