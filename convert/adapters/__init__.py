"""A reader and a writer an adapter format, with the neutral `livery.adapter` between them."""
