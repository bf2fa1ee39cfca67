//===- Launch.cpp - How the process was started ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Launch.h"

#include "src/Data/Error.h"

#include <cstdlib>
#include <initializer_list>
#include <optional>

using namespace llrt;

// The number in the first of `names` that is set.
static std::optional<int64_t> variable(std::initializer_list<const char *> names) {
  for (const char *name : names)
    if (const char *text = std::getenv(name))
      return std::atoll(text);
  return std::nullopt;
}

// srun sets SLURM_NTASKS, and PMIX_RANK where it speaks PMIx.
static constexpr std::initializer_list<const char *> rankNames = {"OMPI_COMM_WORLD_RANK",
                                                                  "PMIX_RANK", "PMI_RANK"};
static constexpr std::initializer_list<const char *> sizeNames = {"OMPI_COMM_WORLD_SIZE",
                                                                  "PMI_SIZE", "SLURM_NTASKS"};

int64_t Launch::process() { return variable(rankNames).value_or(0); }

Launch Launch::find(int64_t ranks) {
  std::string launchers = "start it without a launcher (all ranks in one "
                          "process), or with 'mpirun -n " +
                          std::to_string(ranks) + "' or 'srun -n " + std::to_string(ranks) +
                          " --mpi=pmix'";
  std::optional<int64_t> rank = variable(rankNames);
  std::optional<int64_t> size = variable(sizeNames);
  if (!rank || !size) {
    if (std::getenv("RANK") && std::getenv("WORLD_SIZE") && std::getenv("LOCAL_RANK"))
      fail("launcher: expected none or one of MPI processes, got torchrun "
           "(RANK, WORLD_SIZE and LOCAL_RANK are set), which serves programs "
           "compiled with --target=cuda; ",
           launchers);
    return {};
  }
  if (*size != ranks)
    fail("launcher: expected ", ranks, ranks == 1 ? " process" : " processes",
         ", one for each rank of the program, got ", *size, "; ", launchers);
  std::optional<int64_t> local =
      variable({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"});
  return {true, *rank, *size, local.value_or(*size)};
}
