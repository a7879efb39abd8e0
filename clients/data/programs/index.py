"""Index the words of a text, then answer queries from it with pauses between, as a small server does."""

import posix
import sys
import time

LETTERS = "bcdfglmnprst"
QUERIES, PAUSE_S = 3, 2.5


def words(count):
    """Yield made-up words; some come often, as in a language."""
    state = 1
    for _ in range(count):
        state = state * 16807 % 2147483647
        rank = state % 13 * (state >> 8) % 11
        yield LETTERS[rank % 12] + "a" + LETTERS[rank % 7] + "e"


index = {}
for position, word in enumerate(words(int(sys.argv[1]))):
    index.setdefault(word, []).append(position)
ranking = sorted(index, key=lambda word: (-len(index[word]), word))
for query in range(QUERIES):
    time.sleep(PAUSE_S)
    first, second = index[ranking[query]][:20], index[ranking[query + 1]][:20]
    print(ranking[query], min(abs(a - b) for a in first for b in second))
sys.stdout.flush()
posix._exit(0)  # as a server that is told to stop: the interpreter is not taken down piece by piece
