"""A made-up cloudy area with known truth: for the demo, for tests and for benchmarks where no real data are. No stage of
the data flow imports it.
"""
