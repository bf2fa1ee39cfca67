//===- Launch.cpp - How the process was started ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Control/Launch.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <optional>

using namespace llrt;

// The port where nothing else says one; torchrun's.
static constexpr int64_t defaultPort = 29500;
// Slurm's jobs on one machine take ports of their own, below those that Linux gives
// to others.
static constexpr int64_t firstJobPort = 20000, jobPorts = 9000;

namespace {
struct Variable {
  const char *name;
  const char *text;
};
} // namespace

static std::optional<Variable> variable(std::initializer_list<const char *> names) {
  for (const char *name : names)
    if (const char *text = std::getenv(name); text && *text)
      return Variable{name, text};
  return std::nullopt;
}

static std::optional<int64_t> parse(const char *text) {
  int64_t value = 0;
  const char *end = text + std::strlen(text);
  auto [stop, error] = std::from_chars(text, end, value);
  return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

// The number in a variable. Throws Error unless it is in [least, most].
static int64_t number(const Variable &from, int64_t least, int64_t most = INT64_MAX) {
  std::optional<int64_t> value = parse(from.text);
  if (!value || *value < least || *value > most)
    fail("launcher: environment variable ", from.name, ": expected an integer of at least ", least,
         most < INT64_MAX ? " and at most " + std::to_string(most) : "", ", got '", from.text, "'");
  return *value;
}

static Variable require(const char *launcher, const char *name) {
  if (std::optional<Variable> found = variable({name}))
    return *found;
  fail("launcher: expected the environment variable ", name, ", as other variables of ", launcher,
       " are set, got none; unset them to start without a launcher");
}

static int64_t rankBelow(const Variable &rank, const Variable &size) {
  int64_t most = number(size, 1) - 1, value = number(rank, 0);
  if (value > most)
    fail("launcher: environment variable ", rank.name, ": expected at most ", most, ", as ",
         size.name, " is ", size.text, ", got ", rank.text);
  return value;
}

static const std::initializer_list<const char *> mpiRank = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK",
                                                            "PMI_RANK"};
static const std::initializer_list<const char *> torchRank = {"RANK", "LOCAL_RANK"};
// srun sets it for the tasks of a step; the script of sbatch has it, too.
static const std::initializer_list<const char *> slurmRank = {"SLURM_PROCID"};
static const std::initializer_list<const char *> slurmLocalSize = {
    "SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE"};

// Whether srun has started the process, and not sbatch.
static bool isSlurmTask() {
  return variable(slurmRank) && (!variable({"SLURM_JOB_ID"}) ||
                                 variable({"SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS",
                                           "SLURM_LAUNCH_NODE_IPADDR"}));
}

// The first machine of a list as Slurm writes it: node[003-007,9],login1.
static std::string firstNode(const std::string &list) {
  size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == list.npos || comma < bracket)
    return list.substr(0, comma);
  size_t end = list.find_first_of("-,]", bracket);
  if (end == list.npos)
    return "";
  size_t close = list.find(']', bracket);
  std::string tail = list.substr(std::min(list.size(), close == list.npos ? close : close + 1));
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1) +
         tail.substr(0, tail.find_first_of(",["));
}

// Processes of this machine: the first number of texts like 4(x2),3. This one's number among them:
// that of the variable, else as if ranks went from machine to machine in order.
static void findLocal(Launch &launch, std::initializer_list<const char *> sizes,
                      std::initializer_list<const char *> ranks) {
  std::optional<Variable> size = variable(sizes), rank = variable(ranks);
  int64_t value = size ? std::strtoll(size->text, nullptr, 10) : 0;
  launch.knowsLocalSize = value > 0;
  launch.localSize = value > 0 ? std::min(value, launch.size) : launch.size;
  launch.localRank = rank ? number(*rank, 0, launch.size - 1) : launch.rank % launch.localSize;
}

static void findTorch(Launch &launch) {
  const char *launcher = "torchrun";
  Variable rank = require(launcher, "RANK"), size = require(launcher, "WORLD_SIZE");
  Variable local = require(launcher, "LOCAL_RANK");
  Variable host = require(launcher, "MASTER_ADDR"), port = require(launcher, "MASTER_PORT");
  launch.launcher = launcher;
  launch.rank = rankBelow(rank, size);
  launch.size = number(size, 1);
  std::optional<Variable> locals = variable({"LOCAL_WORLD_SIZE"});
  rankBelow(local, locals ? *locals : size);
  findLocal(launch, {"LOCAL_WORLD_SIZE"}, {"LOCAL_RANK"});
  launch.hosts = {host.text};
  launch.hostName = "launcher: environment variable MASTER_ADDR";
  launch.portName = "launcher: environment variable MASTER_PORT";
  launch.port = number(port, 1, 65534);
  // torchrun itself may listen at that port: its processes then meet at the next.
  if (std::optional<Variable> store = variable({"TORCHELASTIC_USE_AGENT_STORE"});
      store && std::string(store->text) == "True")
    ++launch.port;
}

static void findSlurm(Launch &launch) {
  launch.launcher = "srun";
  Variable rank = *variable(slurmRank);
  std::optional<Variable> size = variable({"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"});
  if (!size)
    size = require("srun", "SLURM_NTASKS");
  launch.rank = rankBelow(rank, *size);
  launch.size = number(*size, 1);
  findLocal(launch, slurmLocalSize, {"SLURM_LOCALID"});
  launch.hostName = "launcher: environment variable ";
  launch.portName = "launcher: environment variable MASTER_PORT";
  if (std::optional<Variable> host = variable({"MASTER_ADDR"})) {
    launch.hosts = {host->text};
    launch.hostName += host->name;
  } else {
    std::optional<Variable> nodes =
        variable({"SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"});
    if (nodes && number(*nodes, 1) == 1)
      launch.hosts.push_back("localhost");
    if (std::optional<Variable> list =
            variable({"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"}))
      if (std::string node = firstNode(list->text); !node.empty()) {
        launch.hosts.push_back(node);
        launch.hostName += list->name;
      }
    // Where srun was called: rank 0's machine if a script of sbatch did.
    if (std::optional<Variable> caller = variable({"SLURM_LAUNCH_NODE_IPADDR"})) {
      launch.hosts.push_back(caller->text);
      launch.hostName += caller->name;
    }
    if (launch.hosts.empty())
      fail("launcher: srun has started ", launch.size,
           " processes, but none of the environment "
           "variables SLURM_STEP_NODELIST, SLURM_JOB_NODELIST and SLURM_LAUNCH_NODE_IPADDR says "
           "where rank 0 is; set MASTER_ADDR to its machine");
  }
  if (std::optional<Variable> port = variable({"MASTER_PORT"})) {
    launch.port = number(*port, 1, 65535);
    return;
  }
  launch.port = defaultPort;
  std::optional<Variable> job = variable({"SLURM_JOB_ID", "SLURM_JOBID"});
  std::optional<Variable> step = variable({"SLURM_STEP_ID", "SLURM_STEPID"});
  if (job)
    launch.port = firstJobPort + (number(*job, 0) + 131 * (step ? number(*step, 0) : 0)) % jobPorts;
}

int64_t Launch::process() {
  std::optional<Variable> rank = variable(mpiRank);
  if (!rank)
    rank = variable({"RANK"});
  if (!rank && isSlurmTask())
    rank = variable(slurmRank);
  return rank ? parse(rank->text).value_or(0) : 0;
}

Launch Launch::find(int64_t ranks) {
  std::string n = std::to_string(ranks);
  std::string launchers = "; start it without a launcher (all ranks in one process), or with "
                          "'mpirun -n " +
                          n + "', 'srun -n " + n +
                          "' or torchrun, one process for "
                          "each rank";
  Launch launch;
  // srun sets the rank where it speaks PMIx, but the size under its own name.
  std::optional<Variable> rank = variable(mpiRank);
  std::optional<Variable> size = variable({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"});
  if (rank && size) {
    launch.kind = Kind::Mpi;
    launch.rank = rankBelow(*rank, *size);
    launch.size = number(*size, 1);
    if (variable({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}))
      findLocal(launch, {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"},
                {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"});
    else
      findLocal(launch, slurmLocalSize, {"SLURM_LOCALID"});
    std::optional<Variable> other = variable({"RANK"}), others = variable({"WORLD_SIZE"});
    if (other && others && (number(*other, 0) != launch.rank || number(*others, 1) != launch.size))
      fail("launcher: expected one, got two that contradict each other: ", rank->name, "=",
           rank->text, " of ", size->text, ", but RANK=", other->text, " of ", others->text,
           "; unset the variables of one of them");
  } else if (variable(torchRank) || (variable({"WORLD_SIZE"}) && !variable(slurmRank))) {
    launch.kind = Kind::Tcp;
    findTorch(launch);
  } else if (isSlurmTask()) {
    launch.kind = Kind::Tcp;
    findSlurm(launch);
    // One task runs all ranks, as a process that nothing has started.
    if (launch.size == 1)
      return {};
  } else {
    return {};
  }
  if (launch.size != ranks)
    fail("launcher: expected ", ranks, ranks == 1 ? " process" : " processes",
         ", one for each rank of the program, got ", launch.size, launchers);
  return launch;
}
