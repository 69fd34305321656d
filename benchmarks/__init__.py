"""Side by side with the tools a user would pick instead; figures and commands in RESULTS.md."""
