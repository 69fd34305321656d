"""How the embedded base was made: corpus, tokenizer, training and export."""
