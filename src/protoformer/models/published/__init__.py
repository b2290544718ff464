"""How Hugging Face lays published weights out, a file a family: the only place where its words are used."""
