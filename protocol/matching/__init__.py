"""From what is known of a person to match keys, and from two descriptions to a score with reasons.

reading
    One way to understand a written name: which part is the family name, which the given names.
skeleton
    The consonants that survive misspelling and transliteration.
formal name
    What a nickname stands for ("William" for "Bill").
match key
    A text that both sides can derive from the same patient; it is only ever used blinded.
strong, weak
    A strong key opens the record; a weak one only the notice that such a record may exist.
"""
