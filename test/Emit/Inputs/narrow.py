# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""narrow.py CONFIG OUT: the same model with an image encoder of width 8."""
import json
import sys

config = json.load(open(sys.argv[1]))
config["vision_config"].update(hidden_size=8, intermediate_size=12, vision_output_dim=32)
json.dump(config, open(sys.argv[2], "w"))
