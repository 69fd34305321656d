"""A grammar from a JSON Schema: what llguidance refuses, rewritten into what it compiles.

found = schema_grammar(schema)         # SchemaGrammar, or NoGrammar with the keyword and path
found.text                             # the schema that llguidance compiles
found.render({"value": 1, "name": ""})   # compact, its keys in the grammar's order
"""

from livery.engines.schemas.faults import NoGrammar
from livery.engines.schemas.grammar import SchemaGrammar, schema_grammar

__all__ = ["NoGrammar", "SchemaGrammar", "schema_grammar"]
