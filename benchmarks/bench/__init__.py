"""`make bench`: decloud side by side with what its users would otherwise write, interleaved, each run in a process of its own.

    python -m benchmarks.bench --work DIR [--only identity,...] [--rounds N] [--size PIXELS] [--data ../shared/data]

images > scenes, covers > a line's entries (lines/) > trials (stopwatch, contenders/ and ours) > products > table, plot

Nothing heavy is imported here: the contenders import this package in an environment of their own.
"""
