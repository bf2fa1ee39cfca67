//===- CudaDevice.h - Memory and queues of one rank on a GPU ----*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Streams and events are those of the driver: all work is put into them at once, and the
// host goes on. Beside each stream a list says what was put there, so that messages can
// name it and a wait can tell a rank that computes from one that waits for another:
//
//   stream 1     all_gather | await e | all_gather | ...     on the GPU
//   underWay     all_gather   e         all_gather           each with an event; what is done
//                                                            is taken off while the host waits
//
// Where ranks share a GPU, a communication can be put into streams only when all members have
// come to it (SharedGpu.h). What its stream is to get then is held back on the host, and so
// is what comes after an event of it, and is put there while the host waits.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_CUDADEVICE_H
#define LLRT_CUDA_CUDADEVICE_H

#include "src/Cuda/Exchange.h"
#include "src/Cuda/Gpu.h"
#include "src/Cuda/Launch.h"
#include "src/Cuda/Products.h"
#include "src/Cuda/Staging.h"
#include "src/Cuda/Stream.h"
#include "src/Device/Device.h"

#include <deque>
#include <map>
#include <set>

namespace llrt {

class CudaDevice : public Device {
public:
  // The device of rank `rank` on `gpu`. `program`, `gpu` and `control` must outlive it.
  // Of `options`: the timeout, and whether to record.
  CudaDevice(const Program &program, int64_t rank, const cuda::Gpu &gpu,
             std::unique_ptr<cuda::Exchange> exchange, Control &control,
             const DeviceOptions &options);
  ~CudaDevice() override;

  void *allocate(int64_t bytes, const std::string &name) override;
  void prepare(const std::function<void(const Visitor &)> &visit) override;
  void write(Stream stream, void *to, int64_t bytes,
             const std::function<void(std::byte *)> &fill) override;
  void read(Stream stream, const void *from, int64_t bytes, void *to) override;
  std::unique_ptr<Reading> readLater(Stream stream, const void *from, int64_t bytes) override;
  void zero(Stream stream, void *to, int64_t bytes) override;
  void copy(Stream stream, void *to, int64_t toStride, const void *from, int64_t fromStride,
            int64_t rows, int64_t bytes) override;
  void call(Stream stream, LlrtBlock block, std::vector<void *> buffers, const Work &work) override;
  void communicate(Stream stream, const void *from, void *to, void *scratch,
                   const Work &work) override;
  Event record(Stream stream) override;
  void await(Stream stream, const Event &event) override;
  void wait(const Event &event) override;
  Clock::time_point time(const Event &event) const override;
  bool records() const override { return mayRecord && !exchange->meets(); }
  void beginRecording(Stream stream, std::chrono::duration<double> took) override;
  std::shared_ptr<Recording> endRecording(Stream stream) override;
  void rewrite(const std::shared_ptr<Recording> &recording) override;
  void play(Stream stream, const std::shared_ptr<Recording> &recording) override;

private:
  // Where times are counted from: an event and when it was on the host.
  struct Base;
  struct Reached;
  struct Piece;
  // A communication: once it has been started, the meeting if there is one.
  struct Started {
    bool begun = false;
    std::shared_ptr<cuda::Exchange::Meeting> meeting;
  };
  // A CUDA graph, and the pieces of pinned memory that its copies read.
  struct Graph;
  struct UnderWay {
    Work work; // no action: an await, or all of `graph`
    std::shared_ptr<Reached> done;
    std::shared_ptr<Started> started; // of a communication
    std::shared_ptr<Graph> graph;
  };
  // Puts work into a stream, or returns false: not yet.
  using Step = std::function<bool()>;
  struct Queue {
    LlrtStream stream;
    std::deque<Step> held; // back, in order
    std::deque<UnderWay> underWay;
  };

  // Memory of the GPU, until the end. Throws Error, naming `what`, if there is none.
  cuda::CUdeviceptr take(int64_t bytes, const std::string &what);
  Queue &queue(Stream stream);
  // Times are counted from now on.
  void startClock();
  // Does a step, or holds it back behind others.
  void put(Queue &queue, Step step);
  void put(Queue &queue, std::function<void(cuda::CUstream)> work);
  // Does what was held back, as far as it can be; whether there was anything.
  bool putHeld();
  // An event of its own that was recorded in the stream.
  std::shared_ptr<Reached> mark(Queue &queue);
  // Whether the event is done. Throws Failure, with what was under way, if the GPU has failed.
  bool isDone(const Reached &event);
  // Takes off what is done; whether there was anything.
  bool progress();
  // Whether a stream has come to a communication that is not done.
  bool communicates() const;
  std::chrono::duration<double> patience() const;
  std::string waitsFor() const;
  // Throws Failure, with the work under way, unless `result` is success.
  void check(cuda::CUresult result, const char *what);

  const Program &program;
  int64_t rank;
  const cuda::Gpu &gpu;
  Control &control;
  std::chrono::duration<double> timeout;
  bool mayRecord;
  std::vector<std::vector<int64_t>> members; // of each communicator
  std::unique_ptr<cuda::Exchange> exchange;
  cuda::Products products;
  cuda::TensorMaps maps;
  cuda::Staging staging;
  int64_t programBytes = 0; // that the host writes for the programs that are run
  std::map<Stream, Queue> queues;
  std::vector<cuda::CUdeviceptr> memory; // all that was allocated: arenas, workspaces
  std::vector<cuda::CUevent> events;     // not in use
  std::shared_ptr<Base> base;
  std::vector<std::pair<std::byte *, int64_t>> unread; // pieces whose copy nobody has waited for
  std::shared_ptr<Graph> recording;                    // what is given is recorded there
  std::shared_ptr<Graph> rewritten;                    // its pieces are being written
  size_t nextPiece = 0;                                // of `rewritten`
};

} // namespace llrt
#endif // LLRT_CUDA_CUDADEVICE_H
