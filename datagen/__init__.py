"""Training data: a generator for each skill, the leak check and the data check.

from datagen import make_data

make_data("date-keys", "data/date-keys", 7)
"""

from datagen.make import make_data as make_data

__all__ = ["make_data"]
