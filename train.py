"""Train, fine-tune or test a model: one grammar, model x task x hardware.

    python train.py model=bert task=glue/mnli                       # fine-tune published weights
    python train.py model=bert_l2_h128 task=glue/rte recipe.lr=1e-4 # any key of the config
    python train.py -m model=bert task=glue/rte seed=1,2,3          # a sweep: every combination of the commas
    python train.py experiment=demo                                 # a minute and a half, no network

`python train.py --help` lists groups, options and keys; `protoformer list` what runs with what.
"""

from protoformer.distributed import signals

if __name__ == "__main__":  # processes of a distributed run import this file again
    with signals.listen():  # before all other imports: a signal may come at any time
        from protoformer.commands.train import main

        raise SystemExit(main())
