"""`livery dsl`: the commands that make a dsl student's data, and those that judge the student."""
