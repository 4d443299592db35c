"""The ports in memory, with faults to inject: for tests, held by the same contract suites as the real ones."""
