#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Includes point one way: a room of the compiler or of the runtime may include what is
before it in ROOMS, and nothing else of ours. A room is a folder: `lib/Shard` and
`include/llamac/Shard` are one. The runtime and the software GPU know nothing of the compiler.

    tools/check-includes.py [--list]     (--list prints who includes whom)
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMPILER = ["llrt", "dialects/Interfaces", "dialects/Dist", "dialects/Llama", "dialects/Routine", "Support", "Plan", "Import",
            "Train", "Cost", "Shard", "Pipeline", "Lower", "Check", "Emit", "Driver", "tools"]
RUNTIME = ["llrt", "Data", "Program", "Control", "Transport", "Device", "Host", "Cuda", "Rank", "Commands"]
TARGETS = ["Host", "Cuda"]  # libraries of which an executable has one: nothing else includes them


def room(path):
    """The room of a file, by its path below the root; None if it is in none."""
    parts = path.parts
    if parts[0] == "dialects":
        return "compiler", "/".join(parts[:2])
    if parts[0] == "lib":
        return "compiler", parts[1]
    if parts[:2] == ("include", "llamac"):
        return "compiler", parts[2]
    if parts[:2] == ("runtime", "include"):
        return "runtime", "llrt"
    if parts[:2] == ("runtime", "src"):
        return "runtime", parts[2]
    if parts[:2] == ("tools", "software-gpu"):
        return None
    return ("compiler", "tools") if parts[0] == "tools" else None


def target(side, folder, name):
    """The room that an include of `name` in a file of `folder` leads to; None if not ours."""
    if name.startswith("llamac/") or name.startswith("dialects/"):
        parts = name.split("/")
        return "compiler", "/".join(parts[:2]) if parts[0] == "dialects" else parts[1]
    if name.startswith("llrt/"):
        return side, "llrt"
    if name.startswith("src/"):
        return "runtime", name.split("/")[1]
    return room((folder / name).relative_to(ROOT)) if (folder / name).exists() else None


def main():
    edges, faults = {}, []
    for top in ("dialects", "lib", "include", "runtime", "tools"):
        for path in sorted((ROOT / top).rglob("*")):
            here = room(path.relative_to(ROOT)) if path.suffix in (".h", ".cpp", ".td", ".inc") else None
            if not here:
                continue
            rooms = COMPILER if here[0] == "compiler" else RUNTIME
            if here[1] not in rooms:
                faults.append(f"{path.relative_to(ROOT)}: folder {here[1]} is not listed in tools/check-includes.py")
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                found = re.match(r'\s*#?include "([^"]+)"', line)
                there = target(here[0], path.parent, found[1]) if found else None
                if not there or there == here:
                    continue
                edges.setdefault(here, set()).add(there)
                if there[0] != here[0] or there[1] not in rooms or rooms.index(there[1]) > rooms.index(here[1]) or there[1] in TARGETS:
                    faults.append(f"{path.relative_to(ROOT)}:{number}: {here[1]} comes before {there[1]} or beside it, "
                                  f"so it may not include {found[1]}")
    if "--list" in sys.argv[1:]:
        for here, there in sorted(edges.items()):
            print(f"{here[0]} {here[1]}: {' '.join(sorted(name for _, name in there))}")
    print("\n".join(faults) if faults else "includes point one way")
    return 1 if faults else 0


sys.exit(main())
