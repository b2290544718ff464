"""Names of other programs (Lightning, the Trainer of transformers, fairseq, torchrun) and what they are called here.

For errors alone: no such name is accepted. A note follows where the meaning differs.
"""

from typing import NamedTuple


class Advice(NamedTuple):
    """Our key (dotted, with a value where there is one to give; None: there is no such key), and how its meaning differs."""

    key: str | None
    note: str = ""

    def __str__(self) -> str:
        if self.key is None:
            return f"there is no such key: {self.note}"
        return f"did you mean {self.key}?" + (f" ({self.note})" if self.note else "")


BATCH = "the batch of an optimizer step: over all devices and accumulated micro-batches"
MICRO = "rows that a device holds at once; recipe.batch_size stays the batch of the whole step"
WARMUP = "a fraction of all steps when below 1, else a number of steps"
EVALUATION = "evaluation takes 64 rows at once and needs no batch size"
CHOSEN = "always: a run is known by its best checkpoint, or by an average with recipe.average"
SAME_COMMAND = "the same command continues a run; nothing is to be named"

FOREIGN_KEYS: dict[str, Advice] = {  # by the last part of the dotted key that was typed, or of a flag
    "max_epochs": Advice("recipe.epochs"),
    "num_train_epochs": Advice("recipe.epochs"),
    "num_epochs": Advice("recipe.epochs"),
    "n_epochs": Advice("recipe.epochs"),
    "max_train_steps": Advice("recipe.max_steps"),
    "total_steps": Advice("recipe.max_steps"),
    "max_update": Advice("recipe.max_steps"),
    "learning_rate": Advice("recipe.lr"),
    "base_lr": Advice("recipe.lr"),
    "batch_size": Advice("recipe.batch_size", BATCH),
    "train_batch_size": Advice("recipe.batch_size", BATCH),
    "global_batch_size": Advice("recipe.batch_size", BATCH),
    "per_device_train_batch_size": Advice("recipe.batch_size", f"{BATCH}; hardware.micro_batch is the one of a device"),
    "per_gpu_train_batch_size": Advice("recipe.batch_size", f"{BATCH}; hardware.micro_batch is the one of a device"),
    "micro_batch_size": Advice("hardware.micro_batch", MICRO),
    "per_device_eval_batch_size": Advice(None, EVALUATION),
    "eval_batch_size": Advice(None, EVALUATION),
    "accumulate_grad_batches": Advice("hardware.micro_batch", MICRO),
    "gradient_accumulation_steps": Advice("hardware.micro_batch", MICRO),
    "gradient_accumulation": Advice("hardware.micro_batch", MICRO),
    "grad_accum": Advice("hardware.micro_batch", MICRO),
    "update_freq": Advice("hardware.micro_batch", MICRO),
    "max_tokens": Advice("recipe.batch_size", "counts tokens with recipe.batching=tokens"),
    "group_by_length": Advice("recipe.batching=length_grouped"),
    "gradient_clip_val": Advice("recipe.clip", "the largest norm of the whole gradient"),
    "gradient_clip_algorithm": Advice("recipe.clip", "gradients are clipped by their norm"),
    "max_grad_norm": Advice("recipe.clip"),
    "clip_norm": Advice("recipe.clip"),
    "grad_clip": Advice("recipe.clip"),
    "warmup_ratio": Advice("recipe.warmup", WARMUP),
    "warmup_proportion": Advice("recipe.warmup", WARMUP),
    "warmup_steps": Advice("recipe.warmup", WARMUP),
    "warmup_updates": Advice("recipe.warmup", WARMUP),
    "num_warmup_steps": Advice("recipe.warmup", WARMUP),
    "lr_scheduler_type": Advice("recipe.schedule"),
    "lr_scheduler": Advice("recipe.schedule"),
    "scheduler": Advice("recipe.schedule"),
    "optim": Advice("recipe.optimizer"),
    "adam_epsilon": Advice("recipe.eps"),
    "adam_eps": Advice("recipe.eps"),
    "adam_betas": Advice("recipe.betas", "two numbers, as in [0.9,0.999]"),
    "adam_beta1": Advice("recipe.betas", "two numbers, as in [0.9,0.999]"),
    "adam_beta2": Advice("recipe.betas", "two numbers, as in [0.9,0.999]"),
    "wd": Advice("recipe.weight_decay", "decoupled; of matrices alone"),
    "label_smoothing_factor": Advice("recipe.label_smoothing"),
    "precision": Advice("hardware.precision", "fp32, tf32, bf16 for bf16-mixed, fp16 for 16-mixed"),
    "fp16": Advice("hardware.precision=fp16"),
    "bf16": Advice("hardware.precision=bf16"),
    "tf32": Advice("hardware.precision=tf32"),
    "amp": Advice("hardware.precision", "bf16 or fp16"),
    "mixed_precision": Advice("hardware.precision", "bf16 or fp16"),
    "torch_dtype": Advice("hardware.precision", "weights are kept in fp32"),
    "dtype": Advice("hardware.precision", "weights are kept in fp32"),
    "gpus": Advice("hardware.devices", "a number or all"),
    "num_gpus": Advice("hardware.devices", "a number or all"),
    "n_gpu": Advice("hardware.devices", "a number or all"),
    "nproc_per_node": Advice("hardware.devices", "a number or all"),
    "num_processes": Advice("hardware.devices", "a number or all"),
    "num_nodes": Advice("hardware.nodes"),
    "nnodes": Advice("hardware.nodes"),
    "num_machines": Advice("hardware.nodes"),
    "master_addr": Advice("hardware.rendezvous", "host:port of the first machine"),
    "rdzv_endpoint": Advice("hardware.rendezvous", "host:port of the first machine"),
    "device": Advice("hardware.accelerator", "auto, cpu or gpu"),
    "no_cuda": Advice("hardware.accelerator=cpu"),
    "use_cpu": Advice("hardware.accelerator=cpu"),
    "strategy": Advice("hardware=ddp", "all GPUs of this machine; hardware.devices is their number"),
    "ddp": Advice("hardware=ddp", "all GPUs of this machine; hardware.devices is their number"),
    "torch_compile": Advice("hardware.compile"),
    "num_workers": Advice("hardware.workers"),
    "dataloader_num_workers": Advice("hardware.workers"),
    "preprocessing_num_workers": Advice(None, "texts are tokenised once, by all cores, and kept in paths.cache"),
    "max_length": Advice("task.max_len", "in tokens, special tokens included"),
    "max_seq_length": Advice("task.max_len", "in tokens, special tokens included"),
    "max_source_length": Advice("task.max_len", "in tokens, special tokens included"),
    "max_target_length": Advice("task.max_len", "in tokens, special tokens included"),
    "model_max_length": Advice("task.max_len", "in tokens, special tokens included"),
    "seq_len": Advice("task.max_len", "in tokens, special tokens included"),
    "sequence_length": Advice("task.max_len", "in tokens, special tokens included"),
    "block_size": Advice("task.max_len", "in tokens"),
    "doc_stride": Advice("task.data.stride", "of span tasks, in tokens"),
    "do_train": Advice(None, "a run trains, validates and tests; task.splits.train=null only tests"),
    "do_eval": Advice(None, "a run trains, validates and tests; task.splits.train=null only tests"),
    "do_predict": Advice(None, "a run writes predictions/ for each split; `protoformer predict` reads other texts"),
    "output_dir": Advice("paths.outputs", "a folder for all runs: each finds its own below it"),
    "default_root_dir": Advice("paths.outputs", "a folder for all runs: each finds its own below it"),
    "save_dir": Advice("paths.outputs", "a folder for all runs: each finds its own below it"),
    "overwrite_output_dir": Advice("force=true", "a new attempt beside the old one"),
    "cache_dir": Advice("paths.cache", "of tokens; HF_HOME is that of downloads"),
    "logging_dir": Advice("paths.outputs", "a run logs into its own folder"),
    "logging_steps": Advice("trainer.log_every"),
    "log_every_n_steps": Advice("trainer.log_every"),
    "log_interval": Advice("trainer.log_every"),
    "save_steps": Advice("trainer.checkpoint_every"),
    "save_interval": Advice("trainer.checkpoint_every"),
    "every_n_train_steps": Advice("trainer.checkpoint_every"),
    "save_strategy": Advice("trainer.checkpoint_every"),
    "save_total_limit": Advice(None, "the last and the best checkpoint are kept, no more"),
    "save_top_k": Advice(None, "the last and the best checkpoint are kept, no more"),
    "eval_steps": Advice("trainer.val_check_interval", "batches between validations; otherwise after each epoch"),
    "eval_strategy": Advice("trainer.val_check_interval", "batches between validations; otherwise after each epoch"),
    "evaluation_strategy": Advice("trainer.val_check_interval", "batches between validations; otherwise after each epoch"),
    "eval_interval": Advice("trainer.val_check_interval", "batches between validations; otherwise after each epoch"),
    "load_best_model_at_end": Advice(None, CHOSEN),
    "metric_for_best_model": Advice("task.module.metrics", "val/score is their mean, and selects the best checkpoint"),
    "compute_metrics": Advice("task.module.metrics"),
    "resume_from_checkpoint": Advice(None, SAME_COMMAND),
    "ckpt_path": Advice("init_from", f"initial weights; {SAME_COMMAND}"),
    "restore_file": Advice("init_from", f"initial weights; {SAME_COMMAND}"),
    "checkpoint": Advice("init_from", f"initial weights; {SAME_COMMAND}"),
    "model_name_or_path": Advice("init_from", "initial weights; model=bert and the like name the architecture"),
    "pretrained_model_name_or_path": Advice("init_from", "initial weights; model=bert and the like name the architecture"),
    "model_name": Advice("init_from", "initial weights; model=bert and the like name the architecture"),
    "pretrained": Advice("init_from", "auto means the published weights"),
    "tokenizer_name": Advice("model.tokenizer"),
    "task_name": Advice("task"),
    "dataset": Advice("task", "for data of your own: source=local source.root=..."),
    "dataset_name": Advice("task", "for data of your own: source=local source.root=..."),
    "data_dir": Advice("source.root", "with source=local"),
    "train_file": Advice("source.root", "with source=local: a file, or a folder with train and validation files"),
    "validation_file": Advice("source.root", "with source=local: a folder with train and validation files"),
    "test_file": Advice("source.root", "with source=local: a folder with train, validation and test files"),
    "text_column": Advice("task.rows.text_a"),
    "label_column": Advice("task.rows.label"),
    "num_labels": Advice("task.rows.labels", "the labels' names; task=classify finds them in the data"),
    "max_train_samples": Advice("task.splits.train", "a part of a split is written train[:1000] or train[:10%]"),
    "max_eval_samples": Advice("trainer.limit_val_batches"),
    "seed_everything": Advice("seed"),
    "random_seed": Advice("seed"),
    "data_seed": Advice("seed"),
    "report_to": Advice("tracking", "auto, wandb, wandb_offline, tensorboard or none"),
    "logger": Advice("tracking", "auto, wandb, wandb_offline, tensorboard or none"),
    "use_wandb": Advice("tracking", "auto, wandb, wandb_offline, tensorboard or none"),
    "wandb_project": Advice("tracking.project"),
    "wandb_entity": Advice("tracking.entity"),
    "run_name": Advice(None, "a run is named after what can change its result; WANDB_NAME names it in W&B"),
    "experiment_name": Advice(None, "a run is named after what can change its result; WANDB_NAME names it in W&B"),
    "fast_dev_run": Advice("debug=fast"),
    "hidden_size": Advice("model.d_model"),
    "n_embd": Advice("model.d_model"),
    "embed_dim": Advice("model.d_model"),
    "num_hidden_layers": Advice("model.n_layers"),
    "num_layers": Advice("model.n_layers"),
    "n_layer": Advice("model.n_layers"),
    "num_attention_heads": Advice("model.n_heads"),
    "num_heads": Advice("model.n_heads"),
    "n_head": Advice("model.n_heads"),
    "intermediate_size": Advice("model.d_ff"),
    "ffn_dim": Advice("model.d_ff"),
    "max_position_embeddings": Advice("model.max_seq_len"),
    "n_positions": Advice("model.max_seq_len"),
    "n_ctx": Advice("model.max_seq_len"),
    "hidden_dropout_prob": Advice("model.dropout"),
    "attention_probs_dropout_prob": Advice("model.attention_dropout"),
    "hidden_act": Advice("model.activation"),
    "layer_norm_eps": Advice("model.norm_eps"),
    "initializer_range": Advice("model.init_std"),
    "num_beams": Advice("task.module.beams", "of a translation; `protoformer generate --beams` of a language model"),
    "length_penalty": Advice("task.module.alpha", "of a translation"),
}  # fmt: skip

FOREIGN_VALUES: dict[str, dict[str, str]] = {  # key or group -> value -> ours
    "hardware.precision": {
        **dict.fromkeys(("32", "32-true", "float32", "float", "full", "no", "highest"), "fp32"),
        **dict.fromkeys(("16", "16-mixed", "float16", "half", "16-true"), "fp16"),
        **dict.fromkeys(("bf16-mixed", "bfloat16", "bf16-true"), "bf16"),
    },
    "hardware.accelerator": dict.fromkeys(("cuda", "ddp", "gpus"), "gpu"),
    "hardware.devices": dict.fromkeys(("-1", "auto", "cuda"), "all"),
    "recipe.optimizer": dict.fromkeys(("adam", "adamw_torch", "adamw_hf", "adamw_torch_fused", "bert_adam"), "adamw"),
    "recipe.schedule": {"inverse_sqrt": "noam", "constant_with_warmup": "constant", "cosine_with_restarts": "cosine"},
    "tracking.mode": {"offline": "wandb_offline", "online": "wandb", "disabled": "none", "false": "none"},
    "tracking": {"offline": "wandb_offline", "online": "wandb", "disabled": "none", "false": "none"},
    "hardware": dict.fromkeys(("cuda", "gpus"), "gpu"),
    "model": {
        "bert-base-uncased": "bert",
        "bert-large-uncased": "bert_large",
        "bert-base-cased": "bert_base_cased",
        "bert-large-cased": "bert_large_cased",
        "gpt2-medium": "gpt2_medium",
        "gpt2-large": "gpt2_large",
        "gpt2-xl": "gpt2_xl",
        "opus-mt-en-de": "opus_mt_en_de",
    },
    "task": {"sst-2": "glue/sst2", "sts-b": "glue/stsb", "squad": "squad/v1", "squad_v2": "squad/v2"},
}


def foreign_key(key: str) -> str | None:
    """What a key or flag of another program is called here, for an error; None for a name that no table has."""
    advice = FOREIGN_KEYS.get(key.rpartition(".")[2].replace("-", "_"))
    return None if advice is None or advice.key == key else str(advice)


def foreign_value(key: str, value: object) -> str | None:
    """Our word for a value, or an option of a group, of another program; None for one that no table has."""
    return FOREIGN_VALUES.get(key, {}).get(str(value).rpartition("/")[2].lower())
