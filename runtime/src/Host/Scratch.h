//===- Scratch.h - Memory of one thread that is kept between calls -*- C++
//-*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_HOST_SCRATCH_H
#define LLRT_HOST_SCRATCH_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace llrt {

// A buffer that grows to the largest size ever asked for and then stays. Its
// contents do not survive `reserve`. Use one `thread_local` object per purpose.
class Scratch {
public:
  // At least `bytes` bytes, aligned to a cache line, not initialized.
  void *reserve(size_t bytes) {
    if (bytes > size) {
      memory.reset();
      memory.reset(::operator new(bytes, alignment));
      size = bytes;
    }
    return memory.get();
  }

  static constexpr std::align_val_t alignment{64};

private:
  struct Delete {
    void operator()(void *pointer) const { ::operator delete(pointer, alignment); }
  };
  std::unique_ptr<void, Delete> memory;
  size_t size = 0;
};

// Cuts one reserved buffer into aligned arrays. Run the same sequence of `take`
// twice: first on a null base to learn the size, then on the memory itself.
class Carver {
public:
  explicit Carver(void *base = nullptr) : base(static_cast<char *>(base)) {}

  template <class T> T *take(int64_t count) {
    size_t offset = used;
    used += (count * sizeof(T) + 63) & ~size_t(63);
    return base ? reinterpret_cast<T *>(base + offset) : nullptr;
  }
  size_t bytes() const { return used; }

private:
  char *base;
  size_t used = 0;
};

} // namespace llrt
#endif // LLRT_HOST_SCRATCH_H
