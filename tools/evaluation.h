// What `pith eval` and `pith compare` share: the text and its windows, the models, the checks that
// come before long work.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tools/command.h"

namespace pith::tools {

struct TextOptions {
  std::string text, protocol;  // "": text
  int64_t stride = 0, max_windows = 0;

  void add_to(CLI::App& command);
};

struct EvaluationText {
  std::string text;  // all of it
  uint64_t hash = 0;
  Protocol protocol;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<Window> windows;

  std::string description() const;  // "text-512: the text as it is, ...; 8 windows"
};

// The text, before anything else takes time.
EvaluationText read_text(const TextOptions& o);
// Its windows, with the tokenizer of `source`, none longer than `context`. Warns of a protocol that
// is not for this text.
void make_text_windows(const TextOptions& o, const ModelSource& source, uint64_t context,
                       EvaluationText* to);

struct OpenedModel {
  std::string path;
  std::unique_ptr<ModelSource> source;
  Model model;  // once loaded
};
// Its notes are told.
OpenedModel open_for_evaluation(const ModelOptions& o, const std::string& path);

// Of the linears, as they are stored.
double bits_per_weight(const ModelSource& source);
uint64_t bytes_on_disk(const std::string& path);

// Error(kUsage) where the models cannot be compared: vocabularies of other sizes, or whose tokens
// are others; a warning where they split this text otherwise.
void check_comparable(const ModelSource& base, const OpenedModel& candidate,
                      const EvaluationText& text, bool one_tokenizer);
// Where the base was made from the candidate, or has fewer bits and is not its source.
void warn_exchanged(const ModelSource& base, const OpenedModel& candidate);
void warn_same_text(const ModelSource& source, uint64_t text_hash);

Json json_of(const KlResult& r);

}  // namespace pith::tools
