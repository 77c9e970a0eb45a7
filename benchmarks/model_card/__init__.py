"""Makes docs/MODEL_CARD.md from files: run `python -m benchmarks.model_card --help`."""
