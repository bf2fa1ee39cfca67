//===- software-gpu-mutate - Launches with one order or guard removed --------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A recorded launch runs again with every buffer an allocation of its own (Launch.h), then once more for each
// mutant (Sites.h), each in a process of its own.
//===----------------------------------------------------------------------===//
#include "Support/Json.h"
#include "mutate/Launch.h"
#include "mutate/Sites.h"

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <set>
#include <sys/wait.h>
#include <unistd.h>

using namespace sgpu;
using namespace sgpu::mutate;

static const char *usage =
    R"(usage: software-gpu-mutate [options] FILE...
Removes one barrier, fence, wait, arrival or guard after the other from recorded launches
(SOFTWARE_GPU_RECORD; equal ones once) and says, as a line of JSON each, what gives it away. Options:
  --mutants N   so many, drawn from all together (default all)
  --seed N      of the draw (1)
  --jobs N      mutants that run at once (1)
  --seconds N   how long one may run (60)
  --list        only lists the places
outcome: reported (check says by what), differs (the memory of the launch after it), hangs; if nothing
gives it away: unreached (the launch does not come there), idle (the guard holds for all threads that
come there, the wait is over for all), unused (the guard keeps loads back, and NaNs in their place change
nothing), missed.
The launches themselves must be without fault, with check `strict` too. Exit status: 0, 1 if some are
missed, 2 wrong use or a launch with a fault.
)";

[[noreturn]] static void refuse(const std::string &message) {
  std::cerr << "software-gpu-mutate: " << message << "\n";
  std::exit(2);
}

namespace {
struct Task {
  const Launch *launch;
  const Launch::Memory *right; ///< what it leaves
  std::string file;
  uint64_t code; ///< a number of its text
  Site site;
};
} // namespace

constexpr std::pair<uint64_t, Completion> orders[] = {
    {1, Completion::Late}, {2, Completion::Early}, {3, Completion::Random}, {4, Completion::Late}};

static std::string verdict(const Task &task, std::string &check) {
  auto text = [&](const std::string &with) {
    std::string s = task.launch->ptx;
    return s.replace(task.site.begin, task.site.end - task.site.begin, with);
  };
  for (auto [seed, completion] : orders) {
    Launch::Outcome o = task.launch->run(text(task.site.mutant), seed, completion);
    check = o.check;
    if (!o.check.empty())
      return "reported";
    if (o.memory != *task.right)
      return "differs";
  }
  if (!task.launch->run(text(task.site.reached), 1, Completion::Late).trapped)
    return "unreached";
  auto inEveryOrder = [&](const std::string &with, auto holds) {
    return !with.empty() && std::all_of(std::begin(orders), std::end(orders), [&](auto order) {
      return holds(task.launch->run(text(with), order.first, order.second));
    });
  };
  if (inEveryOrder(task.site.works, [](const Launch::Outcome &o) { return !o.trapped; }))
    return "idle";
  if (inEveryOrder(task.site.unused, [&](const Launch::Outcome &o) {
        return o.check.empty() && o.memory == *task.right;
      }))
    return "unused";
  return "missed";
}

int main(int argc, char **argv) {
  try {
    size_t mutants = ~size_t(0);
    uint64_t seed = 1;
    unsigned jobs = 1, seconds = 60;
    bool list = false;
    std::vector<std::string> files;
    for (int i = 1; i < argc; ++i) {
      std::string a = argv[i];
      auto number = [&]() -> uint64_t {
        char *end = nullptr;
        if (i + 1 == argc || !*argv[i + 1])
          refuse(a + " expects a number");
        uint64_t n = std::strtoull(argv[++i], &end, 10);
        if (*end || !n)
          refuse(a + " " + argv[i] + ": expected a number of at least 1");
        return n;
      };
      if (a == "--help" || a == "-h") {
        std::cout << usage;
        return 0;
      } else if (a == "--mutants") {
        mutants = number();
      } else if (a == "--seed") {
        seed = number();
      } else if (a == "--jobs") {
        jobs = unsigned(number());
      } else if (a == "--seconds") {
        seconds = unsigned(number());
      } else if (a == "--list") {
        list = true;
      } else if (a.starts_with("--")) {
        refuse("unknown option " + a);
      } else {
        files.push_back(a);
      }
    }
    if (files.empty()) {
      std::cerr << usage;
      return 2;
    }
    // Launches of the same kernel, code and geometry are one.
    std::map<std::string, std::pair<Launch, Launch::Memory>> launches;
    std::vector<Task> tasks;
    for (const std::string &file : files) {
      Recording recording = Recording::read(file);
      for (const RecordedLaunch &recorded : recording.launches) {
        RecordedLaunch key = recorded;
        key.parameters.clear(), key.pointers.clear(), key.maps.clear(), key.buffers.clear();
        auto [entry, isNew] = launches.try_emplace(recordOf(key));
        auto &[launch, right] = entry->second;
        if (!isNew)
          continue;
        launch = Launch::of(recording, recorded, true);
        for (Site &site : sitesOf(launch.ptx))
          tasks.push_back({&launch, &right, file, recorded.module, std::move(site)});
      }
    }
    if (mutants < tasks.size()) {
      Random random(seed);
      for (size_t i = 0; i < mutants; ++i)
        std::swap(tasks[i], tasks[i + random.below(uint32_t(tasks.size() - i))]);
      tasks.resize(mutants);
    }
    auto describe = [](const Task &t) {
      Json j;
      j.add("file", t.file);
      j.add("kernel", t.launch->kernel);
      j.add("line", t.site.line);
      j.add("code", t.code);
      j.add("at", t.site.begin);
      j.add("kind", t.site.kind);
      j.add("text", t.site.text);
      return j;
    };
    if (list) {
      for (const Task &t : tasks)
        std::cout << describe(t).str() << "\n";
      return 0;
    }
    // The launches as they are: no fault, and the same memory in every order.
    std::set<const Launch *> whole;
    for (const Task &t : tasks) {
      if (!whole.insert(t.launch).second)
        continue;
      auto &right = const_cast<Launch::Memory &>(*t.right);
      for (auto [s, completion] : orders) {
        Launch::Outcome o = t.launch->run(t.launch->ptx, s, completion);
        if (!o.check.empty())
          refuse(t.file + ": the launch itself has a fault\n" + o.report);
        if (right.empty())
          right = o.memory;
        else if (right != o.memory)
          refuse(t.file + ": launch of " + t.launch->kernel + " gives other bits with seed " +
                 std::to_string(s));
      }
    }
    // A process each: its verdict comes through a pipe.
    struct Child {
      const Task *task;
      int pipe;
    };
    std::map<pid_t, Child> running;
    bool missed = false;
    auto collect = [&] {
      int status = 0;
      pid_t pid = wait(&status);
      auto it = running.find(pid);
      if (it == running.end())
        refuse("lost a process");
      char text[256];
      ssize_t n = read(it->second.pipe, text, sizeof text);
      close(it->second.pipe);
      std::string words(text, n > 0 ? size_t(n) : 0), check;
      if (size_t space = words.find(' '); space != words.npos) {
        check = words.substr(space + 1);
        words.resize(space);
      }
      if (words.empty())
        words = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs" : "fails";
      Json j = describe(*it->second.task);
      j.add("outcome", words);
      if (!check.empty())
        j.add("check", check);
      std::cout << j.str() << std::endl;
      missed |= words == "missed";
      running.erase(it);
    };
    for (const Task &t : tasks) {
      if (running.size() >= jobs)
        collect();
      int ends[2];
      if (pipe(ends))
        refuse("cannot make a pipe");
      pid_t pid = fork();
      if (pid < 0)
        refuse("cannot start a process");
      if (!pid) {
        alarm(seconds);
        std::string check, words;
        try {
          words = verdict(t, check);
        } catch (const std::exception &e) {
          std::cerr << t.file << ": PTX line " << t.site.line << ": " << e.what() << "\n";
          _exit(1);
        }
        if (!check.empty())
          words += " " + check;
        _exit(write(ends[1], words.data(), words.size()) < 0);
      }
      close(ends[1]);
      running[pid] = {&t, ends[0]};
    }
    while (!running.empty())
      collect();
    return missed;
  } catch (const std::exception &e) {
    refuse(e.what());
  }
}
