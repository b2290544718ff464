"""What an unknown name was meant to be: the nearest right one, or that of another program."""
