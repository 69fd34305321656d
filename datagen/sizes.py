"""How much data is made where nobody says: apart from the generator, so that --help stays fast."""

TRAIN_ROWS = 44_800
VALID_ROWS = 162
