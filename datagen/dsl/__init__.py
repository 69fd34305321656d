"""Training data for the skill dsl: specs, schemas, queries, (schema, query, AST) rows, a corpus."""

NAME = "datagen.dsl"
VERSION = "1"
TRAIN_ROWS = 8_000
