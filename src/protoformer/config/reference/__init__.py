"""The reference of all keys, from the schema and from the signatures of targets."""
