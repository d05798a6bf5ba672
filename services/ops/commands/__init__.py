"""The commands of `ripeline`, each with its logic."""
