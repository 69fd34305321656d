"""Training data: a generator a skill, the leak check and the data check."""
