// What the fuzz targets of tokenizer files do with a tokenizer that was made.
#pragma once

#include "formats/tokenizer/tokenizer.h"

namespace pith::fuzz {

// Encodes a text of all kinds of characters, with and without special tokens, and decodes it as a
// whole and as a stream.
inline void use_tokenizer(const Tokenizer& tokenizer) {
  for (const bool parse : {false, true}) {
    const auto ids = tokenizer.encode(" Héllo, it's 12\n\n[EOS][SEP]<s><|im_end|> \xff東",
                                      {.add_special = parse, .parse_special = parse});
    tokenizer.decode(ids, parse);
    StreamDecoder stream(tokenizer);
    for (const int32_t id : ids) stream.push(id);
    stream.finish();
  }
}

}  // namespace pith::fuzz
