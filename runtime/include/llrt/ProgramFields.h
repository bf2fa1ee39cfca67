//===- ProgramFields.h - The fields of a program's text ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The names that the compiler writes and the runtime reads: a field has its name here and
// nowhere else. Program.h says what each means, and in which type it is.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_PROGRAMFIELDS_H
#define LLRT_PROGRAMFIELDS_H

namespace llrt {

/// Of the form as a whole; a runtime reads no other.
inline constexpr int kProgramVersion = 3;

namespace field {

// The program.
inline constexpr char version[] = "version";
inline constexpr char options[] = "options";
inline constexpr char model[] = "model";
inline constexpr char operations[] = "operations";
inline constexpr char certificate[] = "certificate";
inline constexpr char axes[] = "axes";
inline constexpr char communicators[] = "communicators";
inline constexpr char stages[] = "stages";
inline constexpr char locations[] = "locations";

// An axis, a communicator.
inline constexpr char size[] = "size";
inline constexpr char edge[] = "edge";

// A stage.
inline constexpr char arenas[] = "arenas";
inline constexpr char parameters[] = "parameters";
inline constexpr char inputs[] = "inputs";
inline constexpr char sums[] = "sums";
inline constexpr char graphs[] = "graphs";
inline constexpr char programs[] = "programs";

// What several have.
inline constexpr char name[] = "name";
inline constexpr char bytes[] = "bytes";
inline constexpr char type[] = "type";
inline constexpr char shape[] = "shape";
inline constexpr char split[] = "split";
inline constexpr char address[] = "address";
inline constexpr char elements[] = "elements";

// A parameter.
inline constexpr char checkpointKey[] = "checkpoint_key";
inline constexpr char checkpointShape[] = "checkpoint_shape";
inline constexpr char rowBegin[] = "row_begin";
inline constexpr char rowEnd[] = "row_end";
inline constexpr char trainable[] = "trainable";
inline constexpr char initializer[] = "initializer";
inline constexpr char master[] = "master";
inline constexpr char gradient[] = "gradient";
inline constexpr char gradientType[] = "gradient_type";
inline constexpr char moment1[] = "moment1";
inline constexpr char moment2[] = "moment2";
inline constexpr char shard[] = "shard";

// Its shard.
inline constexpr char axis[] = "axis";
inline constexpr char begin[] = "begin";
inline constexpr char storage[] = "storage";

// An input.
inline constexpr char images[] = "images";
inline constexpr char group[] = "group";

// A graph.
inline constexpr char frames[] = "frames";
inline constexpr char items[] = "items";
inline constexpr char outputs[] = "outputs";
inline constexpr char partial[] = "partial";

// An action.
inline constexpr char action[] = "do";
inline constexpr char stream[] = "stream";
inline constexpr char after[] = "after";
inline constexpr char location[] = "location";
inline constexpr char block[] = "block";
inline constexpr char buffers[] = "buffers";
inline constexpr char communicator[] = "communicator";
inline constexpr char outer[] = "outer";
inline constexpr char from[] = "from";
inline constexpr char to[] = "to";
inline constexpr char reduction[] = "reduction";
inline constexpr char toType[] = "to_type";
inline constexpr char accumulate[] = "accumulate";
inline constexpr char at[] = "at";
inline constexpr char tag[] = "tag";
inline constexpr char graph[] = "graph";
inline constexpr char microBatch[] = "micro_batch";

} // namespace field
} // namespace llrt

#endif // LLRT_PROGRAMFIELDS_H
