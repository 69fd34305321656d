"""Bake an adapter into its base, in bounded memory."""
