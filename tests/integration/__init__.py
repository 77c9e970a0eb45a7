"""Real servers, workers and databases, started and stopped by the tests: `make integration`."""
