// Decoders turn tokens back into text, as a list of strings that is joined at the end. Immutable,
// thread-safe; their output is bounded by the budget of the text. Names and behaviour are those
// of Hugging Face tokenizers, except that bytes of an unfinished UTF-8 sequence at the very end
// stay bytes, so that a stream can go on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/regex/regex.h"

namespace pith {

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::vector<std::string> apply(std::vector<std::string> tokens,
                                         TextBudget& budget) const = 0;
};
using DecoderPtr = std::unique_ptr<const Decoder>;

DecoderPtr decode_sequence(std::vector<DecoderPtr> parts);
DecoderPtr decode_byte_level();
DecoderPtr decode_metaspace(std::string replacement, bool drop_first);
DecoderPtr decode_word_piece(std::string prefix, bool cleanup);
DecoderPtr decode_bpe(std::string suffix);
DecoderPtr decode_byte_fallback();
DecoderPtr decode_fuse();
DecoderPtr decode_strip(std::string content, uint64_t start,
                        uint64_t stop);  // per token, up to so many at each end
DecoderPtr decode_replace(std::string what, std::string with);
DecoderPtr decode_replace(Regex what, std::string with);

}  // namespace pith
