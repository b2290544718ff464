"""Invented rows in the schemas of the data sets that in-context tasks read: a function from a number to a row each.

No row is taken from any data set. Columns that no task reads are left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]
FRUITS = ("apple", "plum", "pear", "fig", "quince", "melon", "grape")
PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gil")
PLACES = ("the mill", "the pier", "the barn", "the attic", "the square", "the ferry", "the quarry")
WORDS = ("window", "garden", "silver", "planet", "bridge", "marble", "candle")
GLUE, SUPER_GLUE = "nyu-mll/glue", "aps/super_glue"


def fruit(n: int) -> str:
    return FRUITS[n % 7]


def person(n: int) -> str:
    return PEOPLE[n % 7]


def place(n: int) -> str:
    return PLACES[n % 7]


def story(n: int) -> str:
    return f"{person(n)} took a {fruit(n)} to {place(n)}. {person(n + 1)} had a {fruit(n + 1)}."


def lambada(n: int) -> Row:
    return {
        "text": f'{person(n)} went to {place(n)}.\n\n"I like {fruit(n)}," said {person(n + 1)}, and ate the {fruit(n)}'
    }


def hellaswag(n: int) -> Row:
    first = "How to peel. [header] Peeling [title]" if n % 2 else f"{person(n)} holds a {fruit(n)}."
    return {
        "activity_label": "Cooking", "ctx_a": first, "ctx_b": "" if n % 2 else "she", "label": str(n % 4),
        "endings": [f"peels it {k} times. [step] Then eats it." for k in range(4)],
    }  # fmt: skip


def story_cloze(n: int) -> Row:
    sentences = {f"input_sentence_{k}": f"{person(n)} picked {k} of the {fruit(n)}s." for k in range(1, 5)}
    quiz = {"sentence_quiz1": f"The basket at {place(n)} was full.", "sentence_quiz2": f"{person(n)} had no basket."}
    return {"story_id": f"s{n}", **sentences, **quiz, "answer_right_ending": n % 2 + 1}


def piqa(n: int) -> Row:
    return {"goal": f"To peel a {fruit(n)},", "sol1": "use a knife.", "sol2": "use a spade.", "label": n % 2}


def science(n: int, stem: str, texts: int = 4) -> Row:
    names = [str(k + 1) if n % 3 == 2 else "ABCDE"[k] for k in range(texts)]
    choices = {"text": [f"the {fruit(n + k)}" for k in range(texts)], "label": names}
    return {"id": f"q{n}", stem: f"What falls from tree {n}?", "choices": choices, "answerKey": names[n % texts]}


def entailment(n: int, classes: int = 2, first: str = "premise", second: str = "hypothesis") -> Row:
    return {first: f"{story(n)}", second: f"{person(n)} had a {fruit(n)}.", "idx": n, "label": n % classes}


def wsc(n: int) -> Row:
    text = f"{person(n)} met {person(n + 1)} at {place(n)} because he was late ."
    index = text.split().index("he")
    spans = {"span1_index": 0, "span2_index": index, "span1_text": person(n), "span2_text": "he"}
    return {"text": text, **spans, "idx": n, "label": n % 2}


def multirc(n: int) -> Row:
    return {
        "paragraph": story(n // 2), "question": f"What did {person(n // 2)} take?", "answer": f"A {fruit(n)}",
        "idx": {"paragraph": n // 2, "question": n // 2, "answer": n}, "label": (n + 1) % 2,
    }  # fmt: skip


def record(n: int) -> Row:
    entities = [person(n), f"{person(n)} Stone", person(n + 1)]
    return {
        "passage": f"{story(n)}\n@highlight\n{person(n)} Stone grows {fruit(n)}s\n@highlight\nThe weather was good",
        "query": f"A {fruit(n)} was taken to {place(n)} by @placeholder , it is said.", "entities": entities,
        "answers": entities[:2] if n % 2 else entities[1:2], "idx": {"passage": n, "query": n},
    }  # fmt: skip


def winograd(n: int) -> Row:
    text = f"The {fruit(n)} did not fit into the box because {'it' if n % 2 else 'its'} {'was' if n % 2 else 'size was'} big."
    pronoun = "it" if n % 2 else "its"
    return {
        "text": text, "pronoun": pronoun, "pronoun_loc": text.rindex(f" {pronoun} ") + 1, "quote": "x", "quote_loc": 0,
        "options": [f"The {fruit(n)}", "The box"], "label": n % 2, "source": "invented",
    }  # fmt: skip


def winogrande(n: int) -> Row:
    sentence = f"{person(n)} gave {person(n + 1)} the {fruit(n)}, since _ was hungry."
    return {"sentence": sentence, "option1": person(n), "option2": person(n + 1), "answer": str(n % 2 + 1)}


def race(n: int) -> Row:
    options = [f"a {fruit(n + k)}" for k in range(4)]
    question = f"What did {person(n)} take?" if n % 2 else f"{person(n)} took _ ."
    return {
        "example_id": f"{n}.txt",
        "article": story(n // 2),
        "answer": "ABCD"[n % 4],
        "question": question,
        "options": options,
    }


def triviaqa(n: int) -> Row:
    aliases = [fruit(n).upper(), f"a {fruit(n)}"]
    return {"question": f"Which fruit has {n} seeds?", "answer": {"aliases": aliases, "value": fruit(n)}}


def squad(n: int, unanswerable: bool = False) -> Row:
    texts = [] if unanswerable and n % 2 else [place(n), place(n).removeprefix("the ")]
    return {
        "id": f"{n}", "title": "Fruit", "context": story(n // 2), "question": f"Where did {person(n)} go?",
        "answers": {"text": texts, "answer_start": [0] * len(texts)},
    }  # fmt: skip


def drop(n: int) -> Row:
    nothing = {"number": "", "spans": [], "date": {"day": "", "month": "", "year": ""}}
    answers = [
        {**nothing, "number": str(n + 3)},
        {**nothing, "spans": [f"{n + 3} kilometres", place(n)]},
        {**nothing, "date": {"day": "", "month": "May", "year": "1920"}},
    ]
    columns = {name: [answer[name] for answer in answers] for name in nothing}
    row = {"section_id": f"s{n // 2}", "query_id": f"q{n}", "question": "How far did they walk?"}
    passage = f"They walked {n} kilometres on Monday and 3 on Tuesday."
    return {**row, "passage": passage, "answer": answers[2 * (n % 2)], "validated_answers": columns}


def quac(n: int) -> Row:
    return {
        "dialogue_id": f"d{n}", "wikipedia_page_title": person(n), "section_title": "Harvest",
        "context": f"{story(n)} CANNOTANSWER",
        "questions": ["What was taken?", "Where to?", "Why?"],
        "answers": {
            "texts": [[f"a {fruit(n)}", fruit(n)], [f"to {place(n)}"], ["CANNOTANSWER"]],
            "answer_starts": [[0, 0], [0], [0]],
        },
    }  # fmt: skip


def coqa(n: int) -> Row:
    questions, answers = ["Who went?", "Where?", "With what?"], [person(n), place(n), f"a {fruit(n)}"]
    given = [
        answers,
        answers,
        [""] if n % 2 else [person(n + 1), place(n), fruit(n)],
    ]  # of two, or three more annotators
    return {
        "source": "invented", "story": story(n), "questions": {"input_text": questions, "turn_id": [1, 2, 3]},
        "answers": {"input_text": answers},
        "additional_answers": {str(number): {"input_text": each} for number, each in enumerate(given)},
    }  # fmt: skip


def anli(n: int) -> Row:
    return {"uid": f"u{n}", **entailment(n, 3), "reason": ""}


def sat(n: int) -> Row:
    choices = [f"{word} is to {fruit(n + k)}" for k, word in enumerate(WORDS[:5])]
    return {"first": fruit(n), "second": "tree", "choices": choices, "label": n % 5}


def translation(n: int, other: str) -> Row:
    return {
        "translation": {"en": f"{person(n)} eats a {fruit(n)} there.", other: f"{person(n)} {other} {fruit(n)} {n} la."}
    }


def news(n: int) -> Row:
    article = f"{story(n)} " * 3
    return {"article": article, "highlights": f"{person(n)} was at {place(n)} .\n{fruit(n)} eaten .", "id": f"{n}"}


def arithmetic(n: int) -> Row:
    return {"context": f"\n\nQ: What is {n} plus 4?\n\nA:", "completion": f" {n + 4}"}


def scrambled(n: int) -> Row:
    return {"context": f"\n{WORDS[n % 7][::-1]} =", "completion": f" {WORDS[n % 7]}"}


def stsb(n: int) -> Row:
    return {**entailment(n, 2, "sentence1", "sentence2"), "label": float(n % 6) - 0.2 * (n % 2)}


def swag(n: int) -> Row:
    endings = {f"ending{k}": f"eats {k} of the {fruit(n)}s." for k in range(4)}
    return {"sent1": f"{person(n)} sits at {place(n)}.", "sent2": "She", **endings, "label": n % 4}


def copa(n: int) -> Row:
    choices = {"choice1": "It was ripe.", "choice2": "The tree was cut."}
    return {
        "premise": f"The {fruit(n)} fell.",
        **choices,
        "question": ("cause", "effect")[n % 2],
        "idx": n,
        "label": n % 2,
    }


def wic(n: int) -> Row:
    sentences = {"sentence1": f"A {fruit(n)} plant.", "sentence2": "They plant trees."}
    return {"word": "plant", **sentences, "idx": n, "label": n % 2}


PAIR = ("sentence1", "sentence2")
SCHEMAS: Mapping[tuple[str, str | None], Callable[[int], Row]] = {
    ("EleutherAI/lambada_openai", "default"): lambada,
    ("Rowan/hellaswag", None): hellaswag,
    ("LSDSem/story_cloze", "2016"): story_cloze,
    ("baber/piqa", None): piqa,
    ("allenai/ai2_arc", "ARC-Easy"): lambda n: science(n, "question"),
    ("allenai/ai2_arc", "ARC-Challenge"): lambda n: science(n, "question", 3 + n % 3),
    ("allenai/openbookqa", "main"): lambda n: science(n, "question_stem"),
    (SUPER_GLUE, "boolq"): lambda n: {"question": f"is it a {fruit(n)}", "passage": story(n), "idx": n, "label": n % 2},
    (SUPER_GLUE, "cb"): lambda n: entailment(n, 3),
    (SUPER_GLUE, "rte"): entailment,
    (SUPER_GLUE, "wic"): wic,
    (SUPER_GLUE, "wsc.fixed"): wsc,
    (SUPER_GLUE, "multirc"): multirc,
    (SUPER_GLUE, "record"): record,
    (SUPER_GLUE, "copa"): copa,
    ("lighteval/winograd_wsc", "wsc273"): winograd,
    ("allenai/winogrande", "winogrande_xl"): winogrande,
    ("ehovy/race", "middle"): race,
    ("ehovy/race", "high"): race,
    ("mandarjoshi/trivia_qa", "unfiltered.nocontext"): triviaqa,
    ("google-research-datasets/nq_open", None): lambda n: {"question": f"who ate fruit {n}", "answer": [person(n), "all"]},
    ("stanfordnlp/web_questions", None): lambda n: {"url": "", "question": f"who is {n}?", "answers": [person(n)]},
    ("rajpurkar/squad", "plain_text"): squad,
    ("rajpurkar/squad_v2", "squad_v2"): lambda n: squad(n, unanswerable=True),
    ("EleutherAI/drop", None): drop,
    ("allenai/quac", "plain_text"): quac,
    ("EleutherAI/coqa", None): coqa,
    ("facebook/anli", "plain_text"): anli,
    ("turney/sat_analogies", None): sat,
    ("wmt/wmt14", "fr-en"): lambda n: translation(n, "fr"),
    ("wmt/wmt16", "de-en"): lambda n: translation(n, "de"),
    ("wmt/wmt16", "ro-en"): lambda n: translation(n, "ro"),
    ("abisee/cnn_dailymail", "3.0.0"): news,
    **{("EleutherAI/arithmetic", f"arithmetic_{name}"): arithmetic
       for name in ("1dc", "2da", "2ds", "2dm", "3da", "3ds", "4da", "4ds", "5da", "5ds")},
    **{("EleutherAI/unscramble", name): scrambled
       for name in ("cycle_letters_in_word", "mid_word_1_anagrams", "mid_word_2_anagrams", "random_insertion_in_word",
                    "reversed_words")},
    (GLUE, "cola"): lambda n: {"sentence": f"Apples {'fell' if n % 2 else 'fall the'}.", "label": n % 2, "idx": n},
    (GLUE, "sst2"): lambda n: {"sentence": f"a {'ripe' if n % 2 else 'stale'} {fruit(n)} ", "label": n % 2, "idx": n},
    (GLUE, "mrpc"): lambda n: entailment(n, 2, *PAIR),
    (GLUE, "qqp"): lambda n: entailment(n, 2, "question1", "question2"),
    (GLUE, "stsb"): stsb,
    (GLUE, "mnli"): lambda n: entailment(n, 3),
    (GLUE, "qnli"): lambda n: entailment(n, 2, "question", "sentence"),
    (GLUE, "rte"): lambda n: entailment(n, 2, *PAIR),
    ("allenai/swag", "regular"): swag,
}  # fmt: skip
