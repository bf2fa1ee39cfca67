//===- ProgramFields.h - The fields of a program's text ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The names and words that the compiler writes and the runtime reads: each is here and nowhere
// else. Program.h says what they mean, and which type a field has.
//
//   field    members of the program and of what it consists of; which an action has is said in
//            Actions.def
//   option   members of `options` that the runtime reads; info prints all
//   model    members of `model`
//   known    names of programs, inputs and outputs that have a meaning
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_PROGRAMFIELDS_H
#define LLRT_PROGRAMFIELDS_H

#include <string_view>

namespace llrt {

/// Of the form as a whole; a runtime reads no other.
inline constexpr int kProgramVersion = 4;

namespace field {

// The program.
inline constexpr char version[] = "version";
inline constexpr char options[] = "options";
inline constexpr char model[] = "model";
inline constexpr char operations[] = "operations";
inline constexpr char certificate[] = "certificate";
inline constexpr char logits[] = "logits";
inline constexpr char axes[] = "axes";
inline constexpr char communicators[] = "communicators";
inline constexpr char stages[] = "stages";
inline constexpr char locations[] = "locations";

// Logits of a block (`block` below).
inline constexpr char chunk[] = "chunk";
inline constexpr char rows[] = "rows";

// A program in the certificate.
inline constexpr char actions[] = "actions";
inline constexpr char launchQueue[] = "launch_queue";
inline constexpr char held[] = "held"; // and those below on a device
inline constexpr char multiprocessors[] = "multiprocessors";
inline constexpr char streams[] = "streams";
inline constexpr char queues[] = "queues";

// An axis, a communicator.
inline constexpr char size[] = "size";
inline constexpr char edge[] = "edge";

// A stage.
inline constexpr char arenas[] = "arenas";
inline constexpr char reserves[] = "reserves";
inline constexpr char productStreams[] = "product_streams";
inline constexpr char productBytes[] = "product_bytes";
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
inline constexpr char scratch[] = "scratch";
inline constexpr char scratchBytes[] = "scratch_bytes";
inline constexpr char at[] = "at";
inline constexpr char tag[] = "tag";
inline constexpr char graph[] = "graph";
inline constexpr char microBatch[] = "micro_batch";

} // namespace field

// Named after the options of the compiler.
namespace option {
inline constexpr char batch[] = "batch";
inline constexpr char textLength[] = "text_length";
inline constexpr char images[] = "images";
inline constexpr char microBatches[] = "micro_batches";
inline constexpr char precision[] = "precision";
inline constexpr char lower[] = "lower";
inline constexpr const char *all[] = {batch, textLength, images, microBatches, precision, lower};
} // namespace option

namespace model {
inline constexpr char type[] = "model_type";
inline constexpr char vocabulary[] = "vocabulary";
inline constexpr char extraRows[] = "extra_rows";
inline constexpr char beginToken[] = "begin_token";
inline constexpr char padToken[] = "pad_token";
inline constexpr char endTokens[] = "end_tokens";
inline constexpr char initializerRange[] = "initializer_range";
// Those above a program always has.
inline constexpr const char *required[] = {type,     vocabulary, extraRows,       beginToken,
                                           padToken, endTokens,  initializerRange};
inline constexpr char hash[] = "hash"; // of the program, which Emit adds
inline constexpr char carried[] = "carried";
inline constexpr char computation[] = "computation";
inline constexpr char config[] = "config";
inline constexpr char imageToken[] = "image_token";
inline constexpr char tileSize[] = "tile_size";
inline constexpr char tiles[] = "tiles";
} // namespace model

namespace known {
inline constexpr char step[] = "step";       // programs, and what `operations` counts
inline constexpr char forward[] = "forward"; //
inline constexpr char loss[] = "loss";       // an output of graphs
inline constexpr char hyperparameters[] = "hyperparameters"; // an input of entries
inline constexpr char logitTokens[] = "logit_tokens";        // of graphs: tokens whose logits
                                                             // are wanted
inline constexpr char sum[] = "sum";                         // reductions
inline constexpr char max[] = "max";                         //
} // namespace known

/// How training from scratch fills a parameter, in the order of the dialect's `Initializer`.
enum class Initializer { Normal, Ones, Zeros, Gate };
inline constexpr const char *initializerWords[] = {"normal", "ones", "zeros", "gate"};

/// What an action does (Actions.def).
enum class ActionKind {
#define LLRT_ACTION(KIND, WORD, MEMBERS, WHERE) KIND,
#include "Actions.def"
};

/// Which members of the text an action has.
enum class ActionMembers {
#define LLRT_ACTION_MEMBERS(NAME, ...) NAME,
#include "Actions.def"
};

struct ActionInfo {
  enum Where { Item, Entry };

  ActionKind kind;
  const char *word; ///< `all_gather`
  ActionMembers members;
  Where where; ///< Entry: not in graphs
};

/// All actions, in the order of their kinds.
inline constexpr ActionInfo allActions[] = {
#define LLRT_ACTION(KIND, WORD, MEMBERS, WHERE)                                                    \
  {ActionKind::KIND, WORD, ActionMembers::MEMBERS, ActionInfo::WHERE},
#include "Actions.def"
};

constexpr const ActionInfo &actionInfo(ActionKind kind) { return allActions[int(kind)]; }
constexpr const char *actionName(ActionKind kind) { return actionInfo(kind).word; }

/// The action of a word; null if there is none.
constexpr const ActionInfo *findAction(std::string_view word) {
  for (const ActionInfo &info : allActions)
    if (info.word == word)
      return &info;
  return nullptr;
}

namespace actionFields {
using namespace field;
#define LLRT_ACTION_MEMBERS(NAME, ...)                                                             \
  inline constexpr const char *NAME[] = {__VA_ARGS__ __VA_OPT__(, ) nullptr};
#include "Actions.def"
} // namespace actionFields

/// The fields of `members` in the order of the text, ended by null.
constexpr const char *const *fieldsOf(ActionMembers members) {
  constexpr const char *const *fields[] = {
#define LLRT_ACTION_MEMBERS(NAME, ...) actionFields::NAME,
#include "Actions.def"
  };
  return fields[int(members)];
}

} // namespace llrt

#endif // LLRT_PROGRAMFIELDS_H
