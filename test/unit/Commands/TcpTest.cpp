//===- TcpTest.cpp - Grids of processes that meet over TCP ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// That results are those of threads is in GridTest.cpp; here is how processes find
// each other, and what happens if they do not, or if one of them ends.
//
//===----------------------------------------------------------------------===//

#include "GridProgram.h"

#include "src/Control/Sockets.h"

#include <arpa/inet.h>
#include <chrono>
#include <csignal>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace llrt;
using namespace llrt::test;

namespace {

const GridSizes two = {.tp = 2, .batch = 8}, four = {.dp = 2, .tp = 2, .batch = 4};

struct Files : Folder {
  Files() {
    writeTensors(*this / "w.safetensors", gridWeights());
    writeBatch(*this / "b.safetensors", {3, 5, 0, 7, 1, 4, 6, 2});
  }
  std::vector<std::string> step(int64_t steps, double timeout) {
    return {"step", "--weights=" + (*this / "w.safetensors"),
            "--batch=" + (*this / "b.safetensors"), "--steps=" + std::to_string(steps),
            "--timeout=" + std::to_string(timeout)};
  }
};

double secondsOf(const std::function<void()> &work) {
  auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// A job after its third step.
struct Running : Files {
  TcpJob job;
  explicit Running(const GridSizes &sizes, double timeout = 60)
      : job(sizes, step(1000000, timeout)) {
    while (job.out(0).find("\"step\":3") == std::string::npos && job.err(0).empty())
      usleep(1000);
  }
};

//===----------------------------------------------------------------------===//
// A rank that ends
//===----------------------------------------------------------------------===//

TEST(Tcp, ARankThatDies) {
  Running run(four);
  kill(run.job.process(3), SIGKILL);
  Outcome outcome;
  EXPECT_LT(secondsOf([&] { outcome = run.job.wait(); }), 20);
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_SAYS(run.job.err(0), "grid: error: rank 3 has died: its connection ended without a word");
  EXPECT_SAYS(run.job.err(0), "; rank 0 waited: ");
  // It is said once.
  EXPECT_EQ(run.job.err(1), "");
  EXPECT_EQ(run.job.err(2), "");
}

TEST(Tcp, RankZeroThatDies) {
  Running run(four);
  kill(run.job.process(0), SIGKILL);
  EXPECT_LT(secondsOf([&] { run.job.wait(); }), 20);
  for (int64_t rank : {1, 2, 3})
    EXPECT_SAYS(run.job.err(rank),
                "grid: error: rank " + std::to_string(rank) + ": rank 0 has died: ");
}

TEST(Tcp, ARankThatDoesNotAnswer) {
  Running run(four, 1);
  kill(run.job.process(3), SIGSTOP);
  for (int64_t rank : {0, 1, 2})
    EXPECT_EQ(run.job.wait(rank), 1);
  std::string all = run.job.err(0) + run.job.err(1) + run.job.err(2);
  EXPECT_SAYS(all, "rank 3 (dp 1, tp 1) has not answered for 1 s\n");
  EXPECT_SAYS(all, "  rank 0 (dp 0, tp 0) waits: ");
  EXPECT_SAYS(all, "  rank 1 (dp 0, tp 1) waits: ");
  EXPECT_SAYS(all, "  rank 2 (dp 1, tp 0) waits: ");
  EXPECT_EQ(all.find("error", all.find("error") + 1), std::string::npos) << all;
}

TEST(Tcp, RankZeroThatDoesNotAnswer) {
  Running run(two, 1);
  kill(run.job.process(0), SIGSTOP);
  EXPECT_EQ(run.job.wait(1), 1);
  EXPECT_SAYS(run.job.err(1), "rank 0 (tp 0) has not answered for 1 s\n");
}

// A rank whose input is bad says so; the others end with it, without a word.
TEST(Tcp, ARankThatFails) {
  Files files;
  std::vector<std::string> good = files.step(1, 60), bad = good;
  int64_t port = freePort();
  bad[1] = "--weights=/nowhere";
  auto variables = [&](int64_t rank) { return torchrunVariables(rank, 2, port); };
  TcpJob first(two, good, 1, variables);
  TcpJob second(two, bad, 1, [&](int64_t) { return variables(1); });
  EXPECT_EQ(second.wait(0), 2);
  EXPECT_SAYS(second.err(0), "grid: error: rank 1: /nowhere");
  EXPECT_EQ(first.wait(0), 1);
  EXPECT_EQ(first.err(0), "");
}

//===----------------------------------------------------------------------===//
// Ranks that do not find each other
//===----------------------------------------------------------------------===//

TEST(Tcp, RanksThatDoNotCome) {
  Files files;
  TcpJob job(four, files.step(1, 2), 2);
  Outcome outcome;
  EXPECT_LT(secondsOf([&] { outcome = job.wait(); }), 20);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_SAYS(job.err(0), "grid: error: torchrun: ranks 2, 3 have not come in time to port " +
                              std::to_string(job.port) + " of rank 0; waited 2 s (--timeout)\n");
  EXPECT_EQ(job.err(1), "");
}

TEST(Tcp, RankZeroThatDoesNotCome) {
  Files files;
  int64_t port = freePort();
  TcpJob job(two, files.step(1, 1), 1, [&](int64_t) { return torchrunVariables(1, 2, port); });
  EXPECT_EQ(job.wait(0), 1);
  EXPECT_SAYS(job.err(0),
              "grid: error: rank 1: torchrun: rank 0 cannot be reached (localhost port " +
                  std::to_string(port) + ": Connection refused)");
}

TEST(Tcp, ThePortIsInUse) {
  Files files;
  int64_t port = 0;
  Socket listener = listenOn(port);
  TcpJob job(two, files.step(1, 1), 1, [&](int64_t) { return torchrunVariables(0, 2, port); });
  EXPECT_EQ(job.wait(0), 2);
  EXPECT_SAYS(job.err(0), "MASTER_PORT: expected a port that rank 0 can listen on, got " +
                              std::to_string(port) + ": Address already in use; set MASTER_PORT");
}

// Two processes with one rank, of another job, with another program.
TEST(Tcp, RanksThatDoNotFit) {
  Files files;
  int64_t port = freePort();
  auto variables = [&](int64_t rank) { return torchrunVariables(rank, 2, port); };
  {
    TcpJob job(two, files.step(1, 2), 2, [&](int64_t rank) {
      Variables all = variables(rank);
      if (rank == 1)
        all["RANK"] = "0";
      return all;
    });
    Outcome outcome = job.wait(); // which of them comes late is not known
    EXPECT_EQ(outcome.status, 2);
    EXPECT_SAYS(outcome.err, "Address already in use");
  }
  port = freePort();
  {
    TcpJob first(two, files.step(1, 20), 1, [&](int64_t) { return variables(0); });
    TcpJob second(four, files.step(1, 20), 1,
                  [&](int64_t) { return torchrunVariables(1, 4, port); });
    EXPECT_EQ(first.wait(0), 2);
    EXPECT_SAYS(first.err(0), "launcher: rank 1 at ");
    EXPECT_SAYS(first.err(0), ": expected the 2 processes of rank 0, got one of 4\n");
    EXPECT_EQ(second.wait(0), 2);
    EXPECT_EQ(second.err(0), "");
  }
}

TEST(Tcp, ARankThatComesTwice) {
  Files files;
  int64_t port = freePort();
  TcpJob job(four, files.step(1, 60), 3, [&](int64_t rank) {
    return torchrunVariables(std::min<int64_t>(rank, 1), 4, port); // 0, 1, 1
  });
  Outcome outcome = job.wait();
  EXPECT_EQ(outcome.status, 2);
  EXPECT_SAYS(outcome.err,
              "grid: error: launcher: expected one process for each rank, got two for rank 1");
  EXPECT_EQ(job.err(1) + job.err(2), "");
}

//===----------------------------------------------------------------------===//
// Strangers
//===----------------------------------------------------------------------===//

// A connection that says `text`.
Socket stranger(int64_t port, const std::string &text) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(uint16_t(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int attempt = 0; attempt < 20000; ++attempt) {
    Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(socket.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)) == 0) {
      (void)!::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
      return socket;
    }
    usleep(1000);
  }
  ADD_FAILURE() << "nobody listens";
  return Socket();
}

// Whoever is no rank, says nothing, half of what a rank says, or too much, changes
// nothing.
TEST(Tcp, StrangersAreLeftAlone) {
  Files files;
  int64_t port = freePort();
  auto variables = [&](int64_t rank) { return torchrunVariables(rank, 2, port); };
  TcpJob zero(two, files.step(2, 60), 1, variables);
  std::vector<Socket> strangers;
  strangers.push_back(stranger(port, ""));
  strangers.push_back(stranger(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  strangers.push_back(stranger(port, "llrt ra"));
  strangers.push_back(stranger(port, std::string(1 << 20, '\0')));
  strangers.push_back(
      stranger(port, std::string("llrt rank, 1.\r\n\0control", 23) + std::string(1000, 'x')));
  for (int i = 0; i < 100; ++i)
    stranger(port, "x"); // gone at once
  TcpJob one(two, files.step(2, 60), 1, [&](int64_t) { return variables(1); });
  EXPECT_EQ(zero.wait(0), 0) << zero.err(0);
  EXPECT_EQ(one.wait(0), 0) << one.err(0);
  EXPECT_SAYS(zero.out(0), "\"step\":2");
}

// Bytes in the place of frames: the rank that sent them is given up.
TEST(Tcp, ARankThatSendsWhatIsNone) {
  Files files;
  int64_t port = freePort();
  TcpJob zero(two, files.step(2, 60), 1, [&](int64_t) { return torchrunVariables(0, 2, port); });
  // What a rank says first: magic, purpose, program, rank and size.
  std::string card("llrt rank, 1.\r\n\0control\0\0\0\0\0\0\0\0\0grid", 36);
  card.resize(16 + 16 + 80);
  int64_t numbers[2] = {1, 2};
  card.append(reinterpret_cast<const char *>(numbers), sizeof(numbers));
  Socket liar = stranger(port, card + std::string(1000, 'x'));
  EXPECT_EQ(zero.wait(0), 1);
  EXPECT_SAYS(zero.err(0), "rank 1 has died: its connection ended without a word (it brought "
                           "what no rank of this program sends)");
}

// What answers at rank 0's address is something else.
TEST(Tcp, AStrangerInThePlaceOfRankZero) {
  Files files;
  int64_t port = 0;
  Socket listener = listenOn(port);
  TcpJob job(two, files.step(1, 2), 1, [&](int64_t) { return torchrunVariables(1, 2, port); });
  EXPECT_EQ(job.wait(0), 1);
  EXPECT_SAYS(job.err(0), "what answers is not rank 0 of this program");
}

//===----------------------------------------------------------------------===//
// Variables
//===----------------------------------------------------------------------===//

// Names of IPv4 and of IPv6, Slurm's variables, torchrun's own store.
TEST(Tcp, WaysToBeStarted) {
  Files files;
  std::string want = "\"step\":2";
  for (const char *host : {"127.0.0.1", "::1", "localhost"}) {
    int64_t port = freePort();
    TcpJob job(two, files.step(2, 60), 2, [&](int64_t rank) {
      Variables all = torchrunVariables(rank, 2, port);
      all["MASTER_ADDR"] = host;
      return all;
    });
    Outcome outcome = job.wait();
    EXPECT_EQ(outcome.status, 0) << host << ": " << outcome.err;
    EXPECT_SAYS(outcome.out, want);
  }
  {
    int64_t port = freePort();
    TcpJob job(two, files.step(2, 60), 2,
               [&](int64_t rank) { return slurmVariables(rank, 2, port); });
    Outcome outcome = job.wait();
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_SAYS(outcome.out, want);
  }
  // torchrun listens at the port itself.
  int64_t port = 0;
  Socket store = listenOn(port);
  TcpJob job(two, files.step(2, 60), 2, [&](int64_t rank) {
    Variables all = torchrunVariables(rank, 2, port);
    all["TORCHELASTIC_USE_AGENT_STORE"] = "True";
    return all;
  });
  Outcome outcome = job.wait();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

// A launch that cannot be right: status 2, the variable and what is wrong with it.
TEST(Tcp, VariablesThatAreWrong) {
  Files files;
  struct Case {
    std::map<std::string, std::optional<std::string>> changes; // of torchrun's, rank 1 of 2
    const char *says;
  };
  const Case cases[] = {
      {{{"RANK", {}}}, "expected the environment variable RANK, as other variables of torchrun"},
      {{{"WORLD_SIZE", {}}}, "expected the environment variable WORLD_SIZE"},
      {{{"LOCAL_RANK", {}}}, "expected the environment variable LOCAL_RANK"},
      {{{"MASTER_ADDR", {}}}, "expected the environment variable MASTER_ADDR"},
      {{{"MASTER_PORT", {}}}, "expected the environment variable MASTER_PORT"},
      {{{"RANK", "one"}}, "RANK: expected an integer of at least 0, got 'one'"},
      {{{"RANK", "2"}}, "RANK: expected at most 1, as WORLD_SIZE is 2, got 2"},
      {{{"RANK", "-1"}}, "RANK: expected an integer of at least 0, got '-1'"},
      {{{"LOCAL_RANK", "5"}}, "LOCAL_RANK: expected at most 1"},
      {{{"WORLD_SIZE", "0"}}, "WORLD_SIZE: expected an integer of at least 1, got '0'"},
      {{{"WORLD_SIZE", "3"}}, "expected 2 processes, one for each rank of the program, got 3"},
      {{{"MASTER_PORT", "70000"}}, "MASTER_PORT: expected an integer of at least 1 and at most"},
      {{{"MASTER_PORT", "http"}}, "MASTER_PORT: expected an integer"},
      {{{"MASTER_ADDR", "no such host"}},
       "MASTER_ADDR: expected the name or address of a machine, "
       "got 'no such host'"},
      {{{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}},
       "got two that contradict each other: OMPI_COMM_WORLD_RANK=0 of 2, but RANK=1 of 2"},
  };
  std::vector<std::unique_ptr<TcpJob>> jobs;
  for (const Case &each : cases)
    jobs.push_back(std::make_unique<TcpJob>(two, files.step(1, 60), 1, [&](int64_t) {
      Variables all = torchrunVariables(1, 2, 29999);
      for (const auto &[name, value] : each.changes)
        if (value)
          all[name] = *value;
        else
          all.erase(name);
      return all;
    }));
  for (size_t i = 0; i < jobs.size(); ++i) {
    EXPECT_EQ(jobs[i]->wait(0), 2) << cases[i].says;
    EXPECT_SAYS(jobs[i]->err(0), cases[i].says);
  }
  TcpJob slurm(two, files.step(1, 60), 1, [&](int64_t) {
    Variables all = slurmVariables(1, 2, 29999);
    all.erase("SLURM_LAUNCH_NODE_IPADDR");
    return all;
  });
  EXPECT_EQ(slurm.wait(0), 2);
  EXPECT_SAYS(slurm.err(0), "none of the environment variables SLURM_STEP_NODELIST, "
                            "SLURM_JOB_NODELIST and SLURM_LAUNCH_NODE_IPADDR says where rank 0 is");
}

} // namespace
