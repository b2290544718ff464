"""The built-in sample's grammar: its words, what sentences mean, what follows from them."""
