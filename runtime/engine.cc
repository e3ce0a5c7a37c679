#include "runtime/engine.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "core/error.h"
#include "core/interrupt.h"
#include "runtime/backends.h"
#include "runtime/cpu/kv_cache.h"
#include "runtime/forward/forward.h"

namespace pith {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The length of the part of `text` that can be shown: all of it, or up to a beginning of a stop
// text that may still be completed.
size_t showable(const std::string& text, const std::vector<std::string>& stops) {
  size_t end = text.size();
  for (const auto& stop : stops) {
    for (size_t n = std::min(stop.size(), text.size()); n > 0; --n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
        end = std::min(end, text.size() - n);
        break;
      }
    }
  }
  return end;
}

// The special token that `text` consists of, apart from blanks around it.
std::optional<int32_t> special_token(const Tokenizer& tokenizer, std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
  const auto id = tokenizer.id_of(text);
  return id && tokenizer.is_special(*id) ? id : std::nullopt;
}

}  // namespace

Engine::Engine(const ModelSource& source, const EngineOptions& options) {
  if (options.prefill_chunk < 0)
    fail(ErrorKind::kUsage, "prefill chunks of {} tokens", options.prefill_chunk);
  const auto own = static_cast<int64_t>(source.spec().context());
  const int64_t context = options.context > 0 ? options.context : std::min<int64_t>(own, 4096);
  if (!options.executor.cuda)
    require_cache_memory(source.spec(), 1, context, options.cache, model_bytes(source));
  model_ = load_model(source);
  executor_ = make_executor(options.executor);
  memory_ = executor_->prepare(
      model_, {.length = context, .types = options.cache, .tokens = options.prefill_chunk});
  cache_ = executor_->make_cache(model_.spec, 1, context, options.cache);
}

void Engine::rewind(int64_t position) { position_ = std::clamp<int64_t>(position, 0, position_); }

std::vector<float> Engine::extend(std::span<const int32_t> tokens) {
  const Tensor logits = run(tokens);
  std::vector<float> all(static_cast<size_t>(logits.n));
  executor_->read(logits, all);
  return all;
}

// From the likeliest tokens alone where they are enough, which a backend may find where they are.
int32_t Engine::choose(Sampler& sampler, Tensor logits, std::span<const int32_t> history) {
  const auto vocab = static_cast<size_t>(logits.n);
  const size_t enough = sampler.candidates(history, vocab);
  if (enough <= Executor::kMostCandidates) {
    std::vector<Candidate> candidates(enough);
    executor_->top(logits, candidates);
    return sampler.choose(candidates, history);
  }
  if (sampler.takes_mass() && vocab > Executor::kMostCandidates) {
    std::vector<Candidate> candidates(Executor::kMostCandidates);
    executor_->top(logits, candidates);
    const auto id = sampler.choose_open(
        candidates, [&](const Candidate& top, const Candidate& last, double temperature) {
          return executor_->mass_behind(logits, top, last, temperature);
        });
    if (id) return *id;
  }
  std::vector<float> all(vocab);
  executor_->read(logits, all);
  return sampler.sample(all, history);
}

Tensor Engine::run(std::span<const int32_t> tokens) {
  if (tokens.empty()) fail(ErrorKind::kUsage, "no tokens to run");
  if (position_ + static_cast<int64_t>(tokens.size()) > context()) {
    fail(ErrorKind::kUsage, "{} tokens do not fit a context of {} (--ctx-size)",
         position_ + static_cast<int64_t>(tokens.size()), context());
  }
  for (const int32_t id : tokens) {
    if (id < 0 || static_cast<uint64_t>(id) >= model_.spec.vocab())
      fail(ErrorKind::kUsage, "token {} is not in the vocabulary", id);
  }
  Tensor logits;
  while (!tokens.empty()) {
    check_interrupt();
    const auto n = std::min<int64_t>(memory_.tokens, static_cast<int64_t>(tokens.size()));
    const Segment segment{0, position_, n};
    const Batch batch{tokens.first(static_cast<size_t>(n)), std::span(&segment, 1)};
    tokens = tokens.subspan(static_cast<size_t>(n));
    if (tokens.empty()) {
      const int64_t last = n - 1;
      logits = forward_logits(*executor_, model_, batch, *cache_, std::span(&last, 1));
    } else {
      forward_hidden(*executor_, model_, batch, *cache_);
    }
    position_ += n;
  }
  return logits;
}

GenerateResult Engine::generate(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                                const GenerateOptions& options,
                                FunctionRef<bool(const std::string&)> show) {
  GenerateResult result;
  Sampler sampler(options.sampling);
  StreamDecoder decoder(tokenizer, options.continues_prompt ? prompt : std::span<const int32_t>());
  std::vector<int32_t> history(prompt.begin(), prompt.end());
  auto begin = std::chrono::steady_clock::now();
  Tensor logits = run(prompt);
  result.prefill_seconds = seconds_since(begin);
  result.prefill_tokens = static_cast<int64_t>(prompt.size());

  begin = std::chrono::steady_clock::now();
  size_t shown = 0;
  const auto show_to = [&](size_t end) {
    if (end <= shown) return true;
    const std::string piece = result.text.substr(shown, end - shown);
    shown = end;
    return show(piece);
  };
  const auto finish = [&](const char* why) {
    result.finish = why;
    result.decode_seconds = seconds_since(begin);
    return result;
  };
  // Adds to the text; true where it now has a stop text, of which nothing stays. Of several, the
  // first in the text counts.
  const auto append = [&](const std::string& piece) {
    const size_t searched = result.text.size();
    result.text += piece;
    size_t end = std::string::npos;
    for (const auto& stop : options.stop) {
      const size_t from = searched >= stop.size() ? searched - stop.size() : 0;
      if (!stop.empty()) end = std::min(end, result.text.find(stop, from));
    }
    if (end != std::string::npos) result.text.resize(end);
    return end != std::string::npos;
  };
  std::vector<int32_t> stops;
  if (!options.ignore_stop_tokens) stops = stop_tokens(model_.spec, tokenizer);
  for (const auto& text : options.stop) {
    if (const auto id = special_token(tokenizer, text)) stops.push_back(*id);
  }
  if (options.max_tokens == 0) return finish("length");
  for (;;) {
    const int32_t id = choose(sampler, logits, history);
    const bool stopped = std::ranges::find(stops, id) != stops.end();
    bool ended = stopped, full = false;
    if (!stopped) {
      result.tokens.push_back(id);
      history.push_back(id);
      if (append(decoder.push(id))) {
        show_to(result.text.size());
        return finish("stop");
      }
      if (!show_to(showable(result.text, options.stop)) || interrupted())
        return finish("cancelled");
      full = position_ >= context();
      const bool enough = options.max_tokens >= 0 &&
                          static_cast<int64_t>(result.tokens.size()) >= options.max_tokens;
      ended = full || enough;
    }
    if (ended) {
      const bool stop_text = append(decoder.finish());
      show_to(result.text.size());
      return finish(stopped || stop_text ? "stop" : full ? "context" : "length");
    }
    logits = run(std::span(&id, 1));
  }
}

}  // namespace pith
