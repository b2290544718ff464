"""Stop words: words of English grammar that seldom end a story.

An own list of determiners, pronouns, prepositions, conjunctions, auxiliaries and particles; the list of Radford et al. (2019,
section 3.3) was not published.
"""

STOP_WORDS = frozenset([
    # determiners and quantities
    "a", "an", "the", "this", "that", "these", "those", "each", "every", "either", "neither", "some", "any", "no", "such",
    "both", "all", "few", "many", "much", "more", "most", "several", "other", "another", "own", "same",
    # pronouns
    "i", "me", "my", "mine", "myself", "you", "your", "yours", "yourself", "he", "him", "his", "himself", "she", "her", "hers",
    "herself", "it", "its", "itself", "we", "us", "our", "ours", "ourselves", "they", "them", "their", "theirs", "themselves",
    "who", "whom", "whose", "which", "what", "someone", "something", "anyone", "anything", "everyone", "everything", "nothing",
    # prepositions
    "of", "in", "on", "at", "by", "for", "with", "about", "against", "between", "into", "through", "during", "before", "after",
    "above", "below", "to", "from", "up", "down", "out", "off", "over", "under", "upon", "onto", "within", "without", "toward",
    "towards", "across", "along", "around", "behind", "beside", "beyond", "near", "since", "until", "like", "as", "per", "via",
    # conjunctions and question words
    "and", "or", "but", "nor", "so", "yet", "if", "because", "while", "although", "though", "unless", "whether", "than",
    "when", "where", "why", "how",
    # auxiliaries
    "be", "am", "is", "are", "was", "were", "been", "being", "have", "has", "had", "having", "do", "does", "did", "doing",
    "will", "would", "shall", "should", "can", "could", "may", "might", "must", "let",
    # particles and adverbs of grammar
    "not", "n't", "'s", "'re", "'ve", "'ll", "'d", "'m", "there", "here", "then", "once", "again", "too", "very", "just",
    "only", "also", "even", "still", "ever", "never", "always", "now", "rather", "quite", "almost", "perhaps", "maybe",
])  # fmt: skip
