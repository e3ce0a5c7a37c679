// A SentencePiece model: either an Error, or a tokenizer that encodes and decodes.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "formats/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto tokenizer =
        pith::make_sentencepiece_tokenizer({reinterpret_cast<const char*>(data), size});
    for (const bool parse : {false, true}) {
      const auto ids = tokenizer->encode(" Héllo, it's 12\n\n[SEP]<s> \xff東",
                                         {.add_special = parse, .parse_special = parse});
      tokenizer->decode(ids, parse);
      pith::StreamDecoder stream(*tokenizer);
      for (const int32_t id : ids) stream.push(id);
      stream.finish();
    }
  } catch (const pith::Error&) {
  }
  return 0;
}
