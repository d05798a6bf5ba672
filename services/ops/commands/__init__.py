"""What the commands of `ripeline` do, without a word on the terminal."""
