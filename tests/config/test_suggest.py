from protoformer.config.names.suggest import advice, listed, nearest


def test_the_nearest_name_is_offered_and_every_name_is_listed_nearest_first() -> None:
    names = ["glue/rte", "glue/mnli", "glue/qnli"]
    assert nearest("glue/mnlii", names) == "glue/mnli"
    assert advice("glue/mnlii", names, prefix="task=") == (
        "did you mean task=glue/mnli? Choose from: glue/mnli, glue/qnli, glue/rte"
    )


def test_nothing_near_asks_no_question() -> None:
    assert nearest("zzz", ["adam", "sgd"]) is None
    assert advice("zzz", ["adam", "sgd"]) == "choose from: adam, sgd"
    assert advice("zzz", ["train", "list", "predict"]) == "choose from: list, predict, train"  # by the alphabet
    assert advice("zzz", []) == "there is nothing to choose from"


def test_a_very_long_list_is_cut_and_says_so() -> None:
    line = listed("name7", [f"name{number}" for number in range(60)])
    assert line.startswith("name7, ")
    assert line.endswith("and 20 more (protoformer list)")
