"""The option of the config group `model` whose defaults suit a folder of published weights, by `model_type`."""

MODEL_OPTIONS = {"bert": "bert", "openai-gpt": "gpt", "gpt2": "gpt2", "marian": "opus_mt_en_de"}
