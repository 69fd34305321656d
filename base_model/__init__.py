"""The embedded base: its weights, tokenizer and card, and the recipe that made them."""
