"""A GGUF file as a base model: decoded into a Hugging Face folder, which every part then reads."""
