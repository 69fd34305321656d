"""What `livery train` does before and after the loop: settings, backend, memory, export."""
