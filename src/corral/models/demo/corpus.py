"""The sentences that the demo model speaks, and the chat format around them; knows no token and no weight."""

from typing import Final

# The greedy answer to any chat. No word of it may come twice: a bigram model would loop.
ANSWER: Final = "This is the Corral demo model: it knows only a few sentences and proves that your plumbing works."

# (sentence, weight). The answer outweighs the rest, so that its path is the most likely one at each of its words.
SENTENCES: Final = (
    (ANSWER, 20),
    ("Corral makes one model server out of the machines you own.", 3),
    ("Your machines hold a model that no one of them could hold.", 1),
    ("One plan says what fits, and one check proves that the wires work.", 1),
    ("The model server is up, the machines hold it, and the plan fits.", 1),
    ("A rank is a part of the model, and a node is one of your machines.", 1),
    ("This server proves the wires, the ranks and the plan.", 1),
    ("The plumbing works: each rank sends its part and the answer is one.", 1),
)

BEGIN: Final = "<|begin|>"
END: Final = "<|end|>"
SYSTEM: Final = "<|system|>"
USER: Final = "<|user|>"
ASSISTANT: Final = "<|assistant|>"
SPECIALS: Final = (BEGIN, END, SYSTEM, USER, ASSISTANT)

# Jinja, as both engines read it: a role token, the text, the end token.
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] or '') + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
