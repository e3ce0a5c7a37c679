// Shared by `pith eval` and `pith compare`: the text and its windows, the models, the checks that
// come before long work.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tools/command.h"
#include "tools/input_text.h"

namespace pith::tools {

inline constexpr const char* kTextGroup = "Text";  // of options, in the help

struct TextOptions {
  std::string text, protocol;            // "": text
  int64_t stride = 0, max_windows = -1;  // below 0: all

  void add_to(CLI::App& command);
};

struct EvaluationText {
  InputText text;
  Protocol protocol;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<Window> windows;

  std::string description() const;  // "text-512: the text as it is, ...; 8 windows"
};

// The text, before anything else takes time.
EvaluationText read_text(const TextOptions& o);
// Its windows, with the tokenizer and chat template of `source`, none longer than `context`.
// Error(kUsage) for conversations in another protocol than text; warns of one that is not for this
// text.
void make_text_windows(const TextOptions& o, const ModelSource& source, uint64_t context,
                       EvaluationText* to);

struct OpenedModel {
  std::string path;
  std::unique_ptr<ModelSource> source;
  Model model;  // once loaded
};
// Opens `path` with the other options of `o`; warns of the notes.
OpenedModel open_for_evaluation(const ModelOptions& o, const std::string& path);

// The mean over all linears, as they are stored.
double bits_per_weight(const ModelSource& source);
uint64_t bytes_on_disk(const std::string& path);

// Error(kUsage) where the vocabularies of the models differ in size or tokens; a warning where the
// tokenizers split this text differently.
void check_comparable(const ModelSource& base, const OpenedModel& candidate,
                      const EvaluationText& text, bool one_tokenizer);
// Warns where the base was made from the candidate, or has fewer bits and is not its source.
void warn_exchanged(const ModelSource& base, const OpenedModel& candidate);
void warn_same_text(const ModelSource& source, uint64_t text_hash);

Json json_of(const KlResult& r);

}  // namespace pith::tools
