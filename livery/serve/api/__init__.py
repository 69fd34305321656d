"""The HTTP side: one router a resource, what every request must pass, and errors as problems."""
