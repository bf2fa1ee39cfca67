# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ranks.py [--kill-after=N] [--memory-of-1=SIZE] -- PROGRAM OPTIONS...: two ranks, each a process, as torchrun would start them.

Kills rank 1 when rank 0 has printed N lines. Prints how each ended and its errors. They have two minutes.
"""
import argparse
import os
import socket
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--kill-after", type=int)
parser.add_argument("--memory-of-1")
split = sys.argv.index("--")
arguments, command = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1:]
with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
ranks = []
for rank in "01":
    environment = os.environ | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    if rank == "1" and arguments.memory_of_1:
        environment["SOFTWARE_GPU_MEMORY"] = arguments.memory_of_1
    ranks.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment))
try:
    if arguments.kill_after:
        for _ in range(arguments.kill_after):
            ranks[0].stdout.readline()
        ranks[1].kill()
    for rank, process in enumerate(ranks):
        errors = process.communicate(timeout=120)[1]
        print(f"rank {rank}: status {process.returncode}\n{errors}end of rank {rank}")
finally:
    for process in ranks:
        process.kill()
