#include "runtime/engine/engine.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"

namespace pith {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

void Engine::rewind(int64_t position) { position_ = std::clamp<int64_t>(position, 0, position_); }

std::vector<float> Engine::extend(std::span<const int32_t> tokens) {
  const Tensor logits = run(tokens);
  std::vector<float> all(static_cast<size_t>(logits.n));
  executor().read(logits, all);
  return all;
}

Tensor Engine::run(std::span<const int32_t> tokens) {
  if (tokens.empty()) fail(ErrorKind::kUsage, "no tokens to run");
  const int64_t end = position_ + std::ssize(tokens);
  if (end > context())
    fail(ErrorKind::kUsage, "{} tokens do not fit a context of {} (--ctx-size)", end, context());
  for (const int32_t id : tokens) {
    if (id < 0 || static_cast<uint64_t>(id) >= model().spec.vocab())
      fail(ErrorKind::kUsage, "token {} is not in the vocabulary", id);
  }
  runner_.cache().truncate(0, position_);
  if (!runner_.cache().reserve(0, end))
    fail(ErrorKind::kMemory, "the KV cache has no pages left for {} tokens", end);
  Tensor logits;
  while (!tokens.empty()) {
    const auto n = std::min<int64_t>(memory().tokens, std::ssize(tokens));
    const Segment segment{0, position_, n};
    const Batch batch{tokens.first(static_cast<size_t>(n)), std::span(&segment, 1)};
    tokens = tokens.subspan(static_cast<size_t>(n));
    const int64_t last = n - 1;
    logits = runner_.run(batch, std::span(&last, tokens.empty() ? 1 : 0));
    position_ += n;
  }
  return logits;
}

GenerateResult Engine::generate(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                                const GenerateOptions& options,
                                FunctionRef<bool(const std::string&)> show) {
  Sequence sequence(model().spec, tokenizer, prompt, options);
  Sequence* const sequences[] = {&sequence};
  auto begin = std::chrono::steady_clock::now();
  Tensor logits = run(prompt);
  const double prefill_seconds = seconds_since(begin);

  begin = std::chrono::steady_clock::now();
  while (!sequence.ended()) {
    int32_t id = 0;
    runner_.sample(logits, sequences, std::span(&id, 1));
    const std::string piece = sequence.push(id, position_ >= context());
    const bool heard = piece.empty() || show(piece);
    if ((!heard || cancel_.cancelled()) && sequence.finish() != "stop") sequence.end("cancelled");
    if (!sequence.ended()) logits = run(std::span(&id, 1));
  }
  return {sequence.text(),      {sequence.answer().begin(), sequence.answer().end()},
          sequence.finish(),    prefill_seconds,
          seconds_since(begin), std::ssize(prompt)};
}

}  // namespace pith
