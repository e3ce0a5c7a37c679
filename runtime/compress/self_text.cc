#include "runtime/compress/self_text.h"

#include <algorithm>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "runtime/algebra/algebra.h"
#include "runtime/forward/forward.h"
#include "runtime/forward/sampling.h"

namespace pith {
namespace {

constexpr int64_t kPiece = 32;  // tokens of a window between two calls of `keep`

uint64_t window_bytes(const proto::ModelSpec& spec, int64_t length) {
  uint64_t token = 0;
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = absorbed_form(s.attention());
      token += 4ull * form.kv_heads() * form.head_dim();
    }
  }
  return std::max<uint64_t>(1, token * static_cast<uint64_t>(length));
}

int64_t windows_at_once(const proto::ModelSpec& spec, int64_t length, uint64_t cache_bytes) {
  return static_cast<int64_t>(
      std::clamp<uint64_t>(cache_bytes / window_bytes(spec, length), 1, 64));
}

// Windows that are written together, token by token.
class Writer {
 public:
  Writer(Executor& executor, const Model& model, KvCache& cache, int64_t first, int64_t count,
         uint64_t seed, const std::vector<int32_t>& stops, const CancelToken& cancel, Windows& out)
      : executor_(executor),
        model_(model),
        cache_(cache),
        first_(first),
        count_(count),
        stops_(stops),
        cancel_(cancel),
        out_(out) {
    const auto& spec = model.spec;
    for (int64_t i = 0; i < count; ++i) {
      const Rng rng(seed, 0x73656c66u + static_cast<uint64_t>(first + i));
      samplers_.emplace_back(SamplingOptions{.temperature = 1, .min_p = 0.02, .seed = rng.at(0)});
      auto& window = out[static_cast<size_t>(first + i)];
      if (window.empty())
        window.push_back(spec.bos_token() >= 0 ? spec.bos_token()
                                               : static_cast<int32_t>(rng.at(1) % spec.vocab()));
    }
  }
  int64_t length() const { return static_cast<int64_t>(out_[static_cast<size_t>(first_)].size()); }

  // After windows were given tokens: runs all but the last of each, and draws what chose them.
  void catch_up() {
    const int64_t n = length() - 1;
    for (int64_t begin = 0; begin < n; begin += Executor::kPassTokens) {
      const int64_t here = std::min(Executor::kPassTokens, n - begin);
      for (int64_t i = 0; i < count_; ++i) {
        cancel_.check();
        const auto& window = out_[static_cast<size_t>(first_ + i)];
        forward_hidden(
            executor_, model_,
            {std::span(window).subspan(static_cast<size_t>(begin), static_cast<size_t>(here)),
             std::vector<Segment>{{static_cast<int>(i), begin, here}}},
            cache_);
      }
    }
    const float any = 0;
    for (auto& sampler : samplers_) {
      for (int64_t t = 0; t < n; ++t) sampler.sample({&any, 1}, {});
    }
  }

  void step() {
    cancel_.check();
    const auto& spec = model_.spec;
    const auto vocab = static_cast<size_t>(spec.vocab());
    const int64_t at = length() - 1;
    std::vector<Segment> segments;
    std::vector<int64_t> rows;
    std::vector<int32_t> last;
    for (int64_t i = 0; i < count_; ++i) {
      segments.push_back({static_cast<int>(i), at, 1});
      rows.push_back(i);
      last.push_back(out_[static_cast<size_t>(first_ + i)].back());
    }
    const Tensor hidden = forward_hidden(executor_, model_, {last, segments}, cache_);
    const Tensor l = forward_head(executor_, model_, hidden, rows);
    logits_.resize(static_cast<size_t>(l.m * l.n));
    executor_.read(l, logits_);
    parallel_for(count_, [&](int64_t i) {
      const auto row = static_cast<size_t>(i);
      int32_t token = samplers_[row].sample(std::span(logits_).subspan(row * vocab, vocab), {});
      if (spec.bos_token() >= 0 && std::ranges::find(stops_, token) != stops_.end())
        token = spec.bos_token();
      out_[static_cast<size_t>(first_ + i)].push_back(token);
    });
  }

  TextPiece piece(int64_t begin) const {
    TextPiece p{first_, count_, begin, length(), {}};
    for (int64_t i = 0; i < count_; ++i) {
      const auto& w = out_[static_cast<size_t>(first_ + i)];
      p.tokens.insert(p.tokens.end(), w.begin() + begin, w.end());
    }
    return p;
  }

 private:
  Executor& executor_;
  const Model& model_;
  KvCache& cache_;
  int64_t first_, count_;
  const std::vector<int32_t>& stops_;
  const CancelToken& cancel_;
  Windows& out_;
  std::vector<Sampler> samplers_;
  std::vector<float> logits_;
};

// Puts pieces that follow each other into place, as far as they do.
void restore(const std::vector<TextPiece>& written, int64_t together, int64_t length, int32_t vocab,
             Windows& out) {
  for (const auto& p : written) {
    const auto count = static_cast<int64_t>(out.size());
    if (p.first < 0 || p.first % together != 0 || p.first >= count ||
        p.count != std::min(together, count - p.first) || p.end <= p.begin || p.end > length ||
        static_cast<int64_t>(p.tokens.size()) != p.count * (p.end - p.begin) ||
        static_cast<int64_t>(out[static_cast<size_t>(p.first)].size()) != p.begin ||
        !std::ranges::all_of(p.tokens, [&](int32_t id) { return id >= 0 && id < vocab; })) {
      continue;
    }
    for (int64_t i = 0; i < p.count; ++i) {
      auto& w = out[static_cast<size_t>(p.first + i)];
      const auto from = p.tokens.begin() + i * (p.end - p.begin);
      w.insert(w.end(), from, from + (p.end - p.begin));
    }
  }
}

}  // namespace

std::string to_bytes(const TextPiece& piece) {
  const int64_t head[] = {piece.first, piece.count, piece.begin, piece.end};
  std::string bytes(as_text(std::as_bytes(std::span(head))));
  bytes += as_text(std::as_bytes(std::span(piece.tokens)));
  return bytes;
}

TextPiece piece_from(std::string_view bytes) {
  int64_t head[4];
  if (bytes.size() < sizeof(head) || (bytes.size() - sizeof(head)) % sizeof(int32_t) != 0)
    fail(ErrorKind::kCorrupt, "a piece of text of {} bytes", bytes.size());
  std::memcpy(head, bytes.data(), sizeof(head));
  TextPiece p{head[0], head[1], head[2], head[3], {}};
  p.tokens.resize((bytes.size() - sizeof(head)) / sizeof(int32_t));
  std::ranges::copy(as_bytes(bytes.substr(sizeof(head))),
                    std::as_writable_bytes(std::span(p.tokens)).begin());
  return p;
}

uint64_t text_cache_bytes(const proto::ModelSpec& spec, int64_t count, int64_t length,
                          uint64_t cache_bytes) {
  const auto together =
      static_cast<uint64_t>(std::min(count, windows_at_once(spec, length, cache_bytes)));
  return together * (window_bytes(spec, length) + spec.vocab() * sizeof(float) * 2);
}

Windows write_windows(Executor& executor, const Model& model, int64_t count, int64_t length,
                      uint64_t seed, const std::vector<int32_t>& stops, Progress& progress,
                      uint64_t cache_bytes, const std::vector<TextPiece>& written,
                      FunctionRef<void(const TextPiece&)> keep) {
  const auto& spec = model.spec;
  if (length > static_cast<int64_t>(spec.context()))
    fail(ErrorKind::kUsage, "windows of {} tokens for a model of {}", length, spec.context());
  const int64_t together = std::min(count, windows_at_once(spec, length, cache_bytes));
  Windows out(static_cast<size_t>(count));
  restore(written, together, length, static_cast<int32_t>(spec.vocab()), out);
  const auto cache =
      executor.make_cache(spec, {static_cast<int>(together), length, NumberFormat::kF16});
  int64_t kept_tokens = 0;
  for (const auto& w : out) kept_tokens += std::ssize(w);
  progress.begin("writing calibration text", count * length, kept_tokens);
  for (int64_t first = 0; first < count; first += together) {
    const int64_t here = std::min(together, count - first);
    auto& window = out[static_cast<size_t>(first)];
    if (static_cast<int64_t>(window.size()) == length) continue;
    if (!executor.algebra().on_host()) {
      for (int64_t i = 0; i < here; ++i) out[static_cast<size_t>(first + i)].clear();
    }
    int64_t kept = static_cast<int64_t>(window.size());
    Writer writer(executor, model, *cache, first, here, seed, stops, progress.cancel(), out);
    writer.catch_up();
    while (writer.length() < length) {
      try {
        writer.step();
      } catch (const Error& e) {  // what is written so far is not lost
        if (e.kind() == ErrorKind::kCancelled && writer.length() > kept) keep(writer.piece(kept));
        throw;
      }
      if (writer.length() - kept >= kPiece || writer.length() == length) {
        keep(writer.piece(kept));
        kept = writer.length();
      }
      progress.advance(first * length + writer.length() * here, "");
    }
  }
  progress.end();
  return out;
}

}  // namespace pith
