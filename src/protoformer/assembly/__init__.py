"""From a composed config to tokenizer, model, data and module."""
