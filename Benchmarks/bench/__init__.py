# SPDX-License-Identifier: Apache-2.0
"""The benchmark: what `make bench` runs. docs/benchmarks.md says how to run it and how to read what it writes."""
