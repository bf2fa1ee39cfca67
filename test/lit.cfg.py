# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
import os
import shutil
import sys

import lit.formats

config.name = "llamac"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs"]
config.substitutions.append(("%python", sys.executable))
config.substitutions.append(("%plugins", config.plugins_dir))
config.substitutions.append(("%software_gpu", os.path.join(config.build_dir, "lib", "software-gpu")))
config.substitutions.append(("%mlir_lib_dir", os.path.join(config.llvm_tools_dir, "..", "lib")))
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.build_dir, "test")
config.environment["PATH"] = os.pathsep.join(
    [config.tools_dir, config.llvm_tools_dir, os.environ["PATH"]]
)
# One answer on every machine and no fight for cores.
config.environment["OMP_NUM_THREADS"] = "2"
config.environment["OMP_WAIT_POLICY"] = "passive"
# Executables for CUDA have PTX alone, which is what the software GPU reads, unless a test asks for ptxas.
config.environment["LLAMAC_PTXAS"] = "none"
config.environment["LLAMAC_CACHE"] = os.path.join(config.build_dir, "test", "cache")
config.substitutions.append(("%software_gpu", os.path.join(config.build_dir, "lib", "software-gpu")))
folders = [os.environ["PATH"], "/usr/local/cuda/bin", os.path.join(config.build_dir, "cuda", "bin")]
if ptxas := shutil.which("ptxas", path=os.pathsep.join(folders)):
    config.available_features.add("ptxas")
    config.substitutions.append(("%ptxas", ptxas))
