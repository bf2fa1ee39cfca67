//===- MpiLibrary.h - The functions of MPI that we call --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CONTROL_MPILIBRARY_H
#define LLRT_CONTROL_MPILIBRARY_H

#define OMPI_SKIP_MPICXX 1 // the C interface only
#include <mpi.h>           // types only: the library is loaded at run time

#include <cstdint>
#include <vector>

namespace llrt {

// Open MPI, loaded when it is needed: an executable runs without it where it is not
// installed.
struct MpiLibrary {
  // Loads the library and starts MPI. Throws Error.
  MpiLibrary();

  decltype(&MPI_Init_thread) init;
  decltype(&MPI_Finalize) finalize;
  decltype(&MPI_Abort) abort;
  decltype(&MPI_Comm_dup) duplicate;
  decltype(&MPI_Comm_set_errhandler) setErrorHandler;
  decltype(&MPI_Comm_rank) commRank;
  decltype(&MPI_Comm_size) commSize;
  decltype(&MPI_Isend) isend;
  decltype(&MPI_Irecv) irecv;
  decltype(&MPI_Test) test;
  decltype(&MPI_Iprobe) iprobe;
  decltype(&MPI_Get_count) count;
  decltype(&MPI_Error_string) errorString;
  // Of the tensors; of what ranks say about themselves.
  MPI_Comm world, control;
  MPI_Datatype byte;
  int rank = 0, size = 1;

  // Throws Failure unless `status` is success.
  void check(int status) const;

  // Starts all pieces, as MPI's int can count them, of a message.
  std::vector<MPI_Request> start(bool isSend, void *data, int64_t bytes, int64_t peer, int tag,
                                 MPI_Comm comm) const;

  // Whether all are done; forgets those that are.
  bool testAll(std::vector<MPI_Request> &requests) const;

  // Does it on `control`, waiting. Costs no core while it waits.
  void transfer(bool isSend, void *data, int64_t bytes, int64_t peer, int tag) const;

  // The size of a message of `tag` on `control` that has arrived from `peer`, which
  // may be MPI_ANY_SOURCE; -1: there is none.
  int64_t arrived(int &peer, int &tag) const;

  // Throws PeerFailure if a rank has told that it has failed.
  void checkPeers() const;
};

} // namespace llrt
#endif // LLRT_CONTROL_MPILIBRARY_H
