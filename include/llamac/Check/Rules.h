//===- Rules.h - Launch lists, and the rules that they obey ----*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A program as it is launched: for every class of ranks one list of actions. An action has a
// stream, waits for events, reads and writes bytes of arenas, and may communicate:
//
//   stage 0   stream 0   F0 ----- F1 ----- ...       RankClass, with its LaunchedActions
//             stream 1        S0 ----- S1            S0 waits for the event that F0 records
//   stage 1   stream 2        R0 ----- R1            the k-th receive meets the k-th send
//
// checkProgram() checks these rules; a file of lib/Check/Rules for each group:
//
//   Match      R1 the k-th call on a communicator agrees on all its members, the k-th send of a
//                 pair with the k-th receive: kind, count, type, tensor; a call fits the bytes
//                 of its action and the axes of its communicator
//              R2 one communicator, one stream of a class
//              R3 an event is recorded before it is awaited, in launch order
//   Cycles     R4 no cycle of waits across hosts, streams, events and communicators, nor of streams
//                 that share a queue of a device; a host that reads results waits for them
//   Device     R5 nothing between the first and the last action makes the host wait for all of a
//                 device, or a device for the host
//              R6 what waits for others leaves room on the device for what they wait for
//   Memory     R7 each read finds the value that it wants, written before; no address is
//                 written before the readers of its old value are done
//   Gradients  R9 every gradient is reduced once over exactly the axes on which it is partial,
//                 whole and in its type
//
// One class stands for all ranks with the same program: shifts along tp, cp and dp map the
// full graph onto itself. That groups are whole axes and peers have equal other coordinates is
// the caller's to check. Nothing here knows IR; Certificate.h reads programs into this form.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_CHECK_RULES_H
#define LLAMAC_CHECK_RULES_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlir::llamac::check {

enum class CallKind : uint8_t {
  Send,
  Receive,
  AllReduce,
  AllGather,
  ReduceScatter,
  Broadcast ///< from the first member
};

/// One communication call of an action.
struct Call {
  CallKind kind;
  int communicator;  ///< index into Program::communicators
  int peer = -1;     ///< class at the other end of a send or receive
  uint64_t tag = 0;  ///< which tensor: stage, chunk, micro-batch; equal at both ends
  int64_t count = 0; ///< elements
  int type = 0;      ///< element type
  int gradient = -1; ///< index into RankClass::gradients, for a reduction of one
  uint32_t axes = 0; ///< bit per grid axis that it goes over
  int toType = -1;   ///< type of the result; -1: `type`
};

/// Bytes [begin, end) of an arena that an action reads or writes. `value` names
/// what is there: a read expects the value that was last written.
struct Access {
  int arena;
  int64_t begin, end;
  uint64_t value;
  bool write;
  int type = -1;        ///< of its elements; -1: any
  bool scratch = false; ///< memory that the action has for itself: nothing that it moves
};

/// One entry of the launch list of a class. Several calls are a group: they
/// start together, and the action is done when all are.
struct LaunchedAction {
  int stream = 0;
  std::vector<Call> calls;
  std::vector<int> awaits, records; ///< events of the class
  std::vector<Access> accesses;     ///< reads come before writes
  std::string location;             ///< of the op, for messages
  std::vector<int> readByHost = {}; ///< actions whose results the host waits for before this one

  // On a device:
  int64_t held = 0;    ///< multiprocessors that its calls hold until all members have come
  int64_t cluster = 0; ///< thread blocks that can only run together, in one group; 0: none at all
  int64_t grid = 0;    ///< of a kernel whose thread blocks wait for each other; 0: none do
  std::vector<std::string> halts = {}; ///< what in it makes the host wait, each in words
};

struct Gradient {
  std::string name;
  uint32_t partialAxes; ///< bit per grid axis; 0: needs no reduction
  int64_t count = 0;    ///< elements that each of its reductions must have
  int type = 0;         ///< type in which they must be made
};

/// Ranks that run the same list.
struct RankClass {
  std::string name;
  std::vector<LaunchedAction> actions;
  std::vector<Access> initial; ///< there before the step: parameters, inputs
  std::vector<Access> final;   ///< what has to be there when all is done
  std::vector<Gradient> gradients;
};

struct Communicator {
  std::string name;
  std::vector<int> classes; ///< its members; one class alone: a group inside it
  uint32_t axes = 0;        ///< bit per grid axis that a group spans; 0: not known
  int64_t ranks = 0;        ///< members of a group; 0: not known
};

struct ElementType {
  std::string name;
  int bytes;
};

/// What a device has: see DeviceLimits of llamac/Lower/Target.h.
struct Device {
  int64_t multiprocessors, groups, queues;
};

struct Program {
  std::vector<RankClass> classes;
  std::vector<Communicator> communicators;
  std::vector<std::string> axes;     ///< names of the bits, for messages
  std::vector<ElementType> types;    ///< by number; empty: a call is not compared
                                     ///< with the bytes of its action
  std::optional<Device> device = {}; ///< of each rank; none: the host does the work
};

struct Fault {
  std::string rule;    ///< "R1" ... "R9"
  std::string message; ///< with the locations of both ends, or of the whole cycle
};

struct Certificate {
  std::vector<Fault> faults; ///< empty: proved
  int launchQueue = 0;       ///< smallest number of actions in a host's queue that suffices
  int streams = 0;           ///< of the rank that has most
  int64_t held = 0;          ///< most multiprocessors that wait for other ranks at a time
  explicit operator bool() const { return faults.empty(); }
};

/// Checks all rules; R4 only if R1 to R3 hold, since else the graph has no
/// meaning. Of each rule at most ten faults are listed. Time grows linearly
/// with actions.
Certificate checkProgram(const Program &program);

} // namespace mlir::llamac::check

#endif // LLAMAC_CHECK_RULES_H
