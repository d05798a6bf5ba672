"""What the commands of `ripeline` do; nothing here reads or writes the terminal."""
