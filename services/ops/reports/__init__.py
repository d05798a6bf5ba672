"""Reports that need no service: lift, made or born, sources; of a table or of the system."""
