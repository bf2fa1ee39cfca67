# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""launches.py INFO.json COUNTERS: whether a step launched what info says, by the software GPU's counters."""
import collections
import json
import sys

info = json.load(open(sys.argv[1]))["device"]
said, counted = collections.Counter(), collections.Counter()
for kernel in info["kernels"]:
    said[kernel["name"]] += kernel["launches"]["step"]
with open(sys.argv[2]) as lines:
    for line in lines:
        one = json.loads(line)
        counted[one["kernel"]] = one["launches"]  # each launch has a line; the sum of a kernel is the last
said = +said
assert sum(said.values()) == info["launches"]["step"][0]["kernels"], "the sum of the kernels is not that of the step"
assert said == counted, f"said {said - counted}, counted {counted - said}"
print(f"the launches of {len(said)} kernels are those that were counted")
