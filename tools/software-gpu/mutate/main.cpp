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
#include <deque>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace sgpu;
using namespace sgpu::mutate;

static const char *usage =
    R"(usage: software-gpu-mutate [options] FILE...
Removes one barrier, fence, wait, arrival or guard after the other from recorded launches
(SOFTWARE_GPU_RECORD; equal ones once) and says, as a line of JSON each, what gives it away. Options:
  --kernels RE  only kernels whose whole name matches this regular expression
  --mutants N   so many, drawn from all together (default all)
  --seed N      of the draw (1)
  --jobs N      kernels whose mutants run at once (1)
  --seconds N   of the processor that one may take (60)
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
/// A launch, and the memory that it leaves.
struct Prepared {
  Launch launch;
  Launch::Memory right;
};
/// The text of a kernel, its launches and the sites to look at.
struct Code {
  std::string file;
  uint64_t number; ///< of the text in its recording
  const Recording *recording;
  std::vector<const RecordedLaunch *> launches;
  std::vector<Site> sites;
};
struct Verdict {
  std::string outcome, check;
};
} // namespace

constexpr std::pair<uint64_t, Completion> orders[] = {
    {1, Completion::Late}, {2, Completion::Early}, {3, Completion::Random}, {4, Completion::Late}};

/// Of one launch. A report of another check than Check::Strict goes to `stop`, which does not come
/// back.
template <typename Stop>
static Verdict verdict(const Prepared &prepared, const Site &site, const Stop &stop) {
  const Launch &launch = prepared.launch;
  auto text = [&](const std::string &with) {
    std::string s = launch.ptx;
    return s.replace(site.begin, site.end - site.begin, with);
  };
  auto inEveryOrder = [&](const std::string &with, auto holds) {
    return !with.empty() && std::all_of(std::begin(orders), std::end(orders), [&](auto order) {
      return holds(launch.run(text(with), order.first, order.second));
    });
  };
  auto reached = [&] { return launch.run(text(site.reached), 1, Completion::Late).trapped; };
  auto works = [&] {
    return !inEveryOrder(site.works, [](const Launch::Outcome &o) { return !o.trapped; });
  };
  // Without a guard that holds for all it is the same launch.
  const bool isGuard = site.kind == std::string_view("guard");
  if (isGuard && !works())
    return {reached() ? "idle" : "unreached", ""};
  const std::string mutant = text(site.mutant);
  for (auto [seed, completion] : orders) {
    Launch::Outcome o = launch.run(mutant, seed, completion, [&](const Report &r) {
      if (r.check != Check::Strict)
        stop(Verdict{"reported", checkName(r.check)});
    });
    if (!o.check.empty())
      return {"reported", o.check};
    if (o.memory != prepared.right)
      return {"differs", ""};
  }
  if (!isGuard && !reached())
    return {"unreached", ""};
  if (!isGuard && !works())
    return {"idle", ""};
  if (inEveryOrder(site.unused, [&](const Launch::Outcome &o) {
        return o.check.empty() && o.memory == prepared.right;
      }))
    return {"unused", ""};
  return {"missed", ""};
}

/// Of all launches: found in one is found; else what one of them does not show is not shown.
template <typename Stop>
static Verdict verdict(const std::vector<Prepared> &launches, const Site &site, const Stop &stop) {
  static const std::vector<std::string> rising = {"unreached", "idle", "unused", "missed"};
  auto rank = [](const Verdict &v) {
    return std::find(rising.begin(), rising.end(), v.outcome) - rising.begin();
  };
  Verdict worst{"unreached", ""};
  for (const Prepared &prepared : launches) {
    Verdict v = verdict(prepared, site, stop);
    if (size_t(rank(v)) == rising.size())
      return v;
    if (rank(v) > rank(worst))
      worst = v;
  }
  return worst;
}

/// A launch as it is: no fault, and the same memory in every order.
static Prepared prepare(const Code &code, const RecordedLaunch &recorded) {
  Prepared p;
  Launch::Outcome first;
  for (std::set<Launch::Begin> joined;;) {
    p.launch = Launch::of(*code.recording, recorded, joined);
    first = p.launch.run(p.launch.ptx, orders[0].first, orders[0].second);
    if (!first.strayed || !joined.insert(*first.strayed).second)
      break;
  }
  p.right = first.memory;
  for (auto [seed, completion] : orders) {
    Launch::Outcome o =
        seed == orders[0].first ? first : p.launch.run(p.launch.ptx, seed, completion);
    if (!o.check.empty())
      refuse(code.file + ": the launch itself has a fault\n" + o.report);
    if (o.memory != p.right)
      refuse(code.file + ": launch of " + p.launch.kernel + " gives other bits with seed " +
             std::to_string(seed));
  }
  return p;
}

static Json describe(const Code &code, const Site &site) {
  Json j;
  j.add("file", code.file);
  j.add("kernel", code.launches.front()->kernel);
  j.add("line", site.line);
  j.add("code", code.number);
  j.add("at", site.begin);
  j.add("number", site.number);
  j.add("of", site.of);
  j.add("around", site.around);
  j.add("kind", site.kind);
  j.add("text", site.text);
  return j;
}

/// Says what gives each site away, in a process for each: its verdict comes through a pipe. Returns
/// whether any is missed.
static bool lookAt(const Code &code, unsigned seconds) {
  std::vector<Prepared> launches;
  for (const RecordedLaunch *launch : code.launches)
    launches.push_back(prepare(code, *launch));
  bool missed = false;
  for (const Site &site : code.sites) {
    int ends[2];
    if (pipe(ends))
      refuse("cannot make a pipe");
    pid_t pid = fork();
    if (pid < 0)
      refuse("cannot start a process");
    if (!pid) {
      const itimerval limit = {{0, 0}, {time_t(seconds), 0}};
      setitimer(ITIMER_PROF, &limit, nullptr);
      auto say = [&](const Verdict &v) {
        std::string words = v.check.empty() ? v.outcome : v.outcome + " " + v.check;
        _exit(write(ends[1], words.data(), words.size()) < 0);
      };
      try {
        say(verdict(launches, site, say));
      } catch (const std::exception &e) {
        std::cerr << code.file << ": PTX line " << site.line << ": " << e.what() << "\n";
        _exit(1);
      }
    }
    close(ends[1]);
    int status = 0;
    rusage usage = {};
    wait4(pid, &status, 0, &usage);
    char text[256];
    ssize_t n = read(ends[0], text, sizeof text);
    close(ends[0]);
    std::string words(text, n > 0 ? size_t(n) : 0), check;
    if (size_t space = words.find(' '); space != words.npos) {
      check = words.substr(space + 1);
      words.resize(space);
    }
    if (words.empty())
      words = WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF ? "hangs" : "fails";
    Json j = describe(code, site);
    j.add("outcome", words);
    if (!check.empty())
      j.add("check", check);
    j.add("milliseconds", uint64_t(usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000));
    std::string line = j.str() + "\n"; // whole: others write there too
    if (write(1, line.data(), line.size()) != ssize_t(line.size()))
      refuse("cannot write");
    missed |= words == "missed";
  }
  return missed;
}

int main(int argc, char **argv) {
  try {
    size_t mutants = ~size_t(0);
    uint64_t seed = 1;
    unsigned jobs = 1, seconds = 60;
    bool list = false;
    std::regex kernels(".*");
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
      } else if (a == "--kernels") {
        if (i + 1 == argc)
          refuse(a + " expects a regular expression");
        try {
          kernels = argv[++i];
        } catch (const std::regex_error &e) {
          refuse(a + " " + argv[i] + ": expected a regular expression: " + e.what());
        }
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
    // Launches of the same kernel, code and geometry are one; a site of a code is one.
    std::deque<Recording> recordings;
    std::set<std::string> known;
    std::deque<Code> codes;
    std::map<uint64_t, Code *> byNumber;
    for (const std::string &file : files) {
      const Recording &recording = recordings.emplace_back(Recording::read(file));
      for (const RecordedLaunch &launch : recording.launches) {
        if (!std::regex_match(launch.kernel, kernels))
          continue;
        RecordedLaunch key = launch;
        key.parameters.clear(), key.pointers.clear(), key.maps.clear(), key.buffers.clear();
        if (!known.insert(recordOf(key)).second)
          continue;
        Code *&code = byNumber[launch.module];
        if (!code)
          code = &codes.emplace_back(Code{
              file, launch.module, &recording, {}, sitesOf(recording.modules.at(launch.module))});
        code->launches.push_back(&launch);
      }
    }
    size_t count = 0;
    for (const Code &code : codes)
      count += code.sites.size();
    if (mutants < count) {
      std::vector<char> drawn(count);
      std::fill_n(drawn.begin(), mutants, true);
      Random random(seed);
      for (size_t i = 0; i < mutants; ++i)
        std::swap(drawn[i], drawn[i + random.below(uint32_t(count - i))]);
      auto at = drawn.begin();
      for (Code &code : codes)
        std::erase_if(code.sites, [&](const Site &) { return !*at++; });
    }
    if (list) {
      for (const Code &code : codes)
        for (const Site &site : code.sites)
          std::cout << describe(code, site).str() << "\n";
      return 0;
    }
    // A process for each code.
    size_t running = 0;
    int worst = 0;
    auto collect = [&] {
      int status = 0;
      if (wait(&status) > 0)
        worst = std::max(worst, WIFEXITED(status) ? WEXITSTATUS(status) : 2);
      --running;
    };
    for (const Code &code : codes) {
      if (code.sites.empty())
        continue;
      if (running == jobs)
        collect();
      pid_t pid = fork();
      if (pid < 0)
        refuse("cannot start a process");
      if (!pid)
        try {
          _exit(lookAt(code, seconds));
        } catch (const std::exception &e) {
          refuse(e.what());
        }
      ++running;
    }
    while (running)
      collect();
    return worst;
  } catch (const std::exception &e) {
    refuse(e.what());
  }
}
