"""`livery serve` and `livery jobs`: people and programs served, the extra `serve`."""
