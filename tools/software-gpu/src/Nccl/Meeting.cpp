//===- Meeting.cpp - Where the ranks of a communicator meet ---------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Nccl/Meeting.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <poll.h>
#include <random>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace sgpu::nccl {

SharedFile::~SharedFile() {
  if (memory)
    munmap(memory, mapped);
  if (descriptor >= 0)
    close(descriptor);
}

bool SharedFile::map(uint64_t bytes) {
  if (memory)
    munmap(memory, mapped);
  memory = nullptr;
  mapped = bytes ? bytes : 1;
  void *at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (at == MAP_FAILED)
    return false;
  memory = static_cast<char *>(at);
  return true;
}

bool SharedFile::create(uint64_t bytes) {
  descriptor = memfd_create("software-gpu-nccl", MFD_CLOEXEC);
  return descriptor >= 0 && ftruncate(descriptor, off_t(bytes ? bytes : 1)) == 0 && map(bytes);
}

bool SharedFile::resize(uint64_t bytes) {
  if (descriptor < 0)
    return create(bytes);
  if (bytes <= mapped)
    return true;
  return ftruncate(descriptor, off_t(bytes)) == 0 && map(bytes);
}

bool SharedFile::open(FileName name, uint64_t bytes) {
  std::string path =
      "/proc/" + std::to_string(name.process) + "/fd/" + std::to_string(name.descriptor);
  descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat info;
  if (descriptor < 0 || fstat(descriptor, &info) != 0 || uint64_t(info.st_size) < bytes)
    return false;
  return map(bytes);
}

FileName SharedFile::name() const { return {int32_t(getpid()), descriptor}; }

bool newMeeting(Ticket &ticket) {
  static std::mutex mutex;
  static auto *all = new std::vector<std::unique_ptr<SharedFile>>; // open until the process ends
  auto file = std::make_unique<SharedFile>();
  if (!file->create(sizeof(Meeting)))
    return false;
  std::random_device device;
  ticket.magic = ticketMagic;
  ticket.token = uint64_t(device()) << 32 | device();
  ticket.file = file->name();
  reinterpret_cast<Meeting *>(file->data())->token = ticket.token;
  std::lock_guard lock(mutex);
  all->push_back(std::move(file));
  return true;
}

std::shared_ptr<SharedFile> openMeeting(const Ticket &ticket, std::string &error) {
  if (ticket.magic != ticketMagic) {
    error = "the unique id was not made by ncclGetUniqueId of this library";
    return nullptr;
  }
  auto file = std::make_shared<SharedFile>();
  if (!file->open(ticket.file, sizeof(Meeting)) ||
      reinterpret_cast<Meeting *>(file->data())->token != ticket.token) {
    error = "process " + std::to_string(ticket.file.process) +
            ", which made the unique id, has ended or is on another machine";
    return nullptr;
  }
  return file;
}

bool isAlive(int32_t process) {
  if (process == getpid())
    return true;
  int descriptor = int(syscall(SYS_pidfd_open, process, 0));
  if (descriptor < 0)
    return errno != ESRCH;
  pollfd wait{descriptor, POLLIN, 0};
  bool ended = poll(&wait, 1, 0) == 1;
  close(descriptor);
  return !ended;
}

} // namespace sgpu::nccl
