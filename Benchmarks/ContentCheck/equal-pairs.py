# SPDX-License-Identifier: Apache-2.0
"""The exact distribution behind Sources/ImageFormats/ContentCheck/SectorCharacter.swift.

For noise of 16, 32, … 512 bytes: how many pairs of equal bytes are expected, from which number on the chance is below
10^-15, where the check's threshold is, and the chance of exceeding that. Needs numpy.
"""

import math

import numpy

BYTES, PAIRS, MOST_EQUAL = 512, 1100, 47
RATE = BYTES / 256

# chances[n, q]: the 256 byte values occur n times in all and make q pairs, when each occurs as a Poisson variable.
chances = numpy.zeros((BYTES + 1, PAIRS + 1))
chances[0, 0] = 1
for _ in range(256):
    sums = numpy.zeros_like(chances)
    for times in range(MOST_EQUAL + 1):
        pairs = times * (times - 1) // 2
        chance = math.exp(times * math.log(RATE) - RATE - math.lgamma(times + 1))
        sums[times:, pairs:] += chance * chances[: BYTES + 1 - times, : PAIRS + 1 - pairs]
    chances = sums

print("bytes  expected  10^-15 from  threshold  chance above it")
for blocks in range(1, 33):
    count = 16 * blocks
    # Given the total, Poisson variables are what dealing that many bytes gives.
    total = math.exp(count * math.log(256 * RATE) - 256 * RATE - math.lgamma(count + 1))
    tail = numpy.cumsum(chances[count][::-1])[::-1] / total
    expected = count * (count - 1) // 512
    limit = next(pairs for pairs in range(PAIRS) if tail[pairs] < 1e-15)
    threshold = expected + 40 + 8 * blocks
    print(f"{count:5}  {expected:8}  {limit:11}  {threshold:9}  {tail[threshold + 1]:.1e}")
    if blocks == 1:
        print(f"       one block, 45 pairs or more: {tail[45]:.1e}")
