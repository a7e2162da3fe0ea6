"""The sentences on which heads are compared with their families: ours, so that a card shows no text of a person."""

from __future__ import annotations

from cahp.values import digest

#: Of many kinds: names, numbers, questions, negation, lists, quotes, repeated words, and what words refer to.
SENTENCES = (
    "The club's owner sold its shares after the final was lost on penalties.",
    "The striker scored twice before the bank announced that rates would rise.",
    "When the minister met the farmers, she promised that they would be paid.",
    "The keys that the driver left in the car were not found until Monday.",
    "Prices fell by nine per cent in March, and by four per cent in April.",
    "Why did the museum close its doors to visitors so early?",
    "The film was not bad at all; in fact, nobody I know disliked it.",
    "The dog chased the cat, and then the cat chased the dog.",
    "She bought bread, milk, three lemons, and a small jar of honey.",
    "The trophy does not fit into the suitcase because it is too large.",
    "Critics praised the band's new album, which was recorded in a barn.",
    "If it rains tomorrow, the match will be played on Sunday instead.",
    "Anna lent Maria a book, but Maria never gave the book back.",
    "The new phone has a better camera than the old phone.",
    "He said that he had seen the letter, although he could not read it.",
    "Neither the pilot nor the passengers noticed that the engine had stopped.",
    "In 1969 two people walked on the moon for the first time.",
    "The government will cut taxes, but it will also cut spending on schools.",
    "Her brother's wife is a doctor in a hospital near the river.",
    "The red ball rolled under the blue chair and stayed there.",
    "Nobody told the actors that the play had been cancelled.",
    "The software update fixes a bug that deleted files without a warning.",
    "First wash the rice, then boil it, and finally let it rest.",
    "The lawyer asked the witness whether she knew the man beside her.",
)
#: The digest of all sentences, as results refer to them by their place.
SENTENCES_SHA256 = digest(*SENTENCES)
