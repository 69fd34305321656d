"""python -m mlx_train …  is  livery train --backend mlx …"""

from __future__ import annotations

import sys

from livery.cli import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "train", "--backend", "mlx", *sys.argv[1:]]
    main()
