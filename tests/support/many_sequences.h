// Sequences that share a model runner, beside each of them alone: for every executor. All passes
// have few tokens, so that no GEMM of many changes an order of summation.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "runtime/engine/model_runner.h"
#include "tests/support/fake_tokenizer.h"
#include "tests/support/tiny_runtime.h"

namespace pith::test {

class ManySequences {
 public:
  using MakeExecutor = std::function<std::unique_ptr<Executor>()>;
  using Tokens = std::vector<int32_t>;
  using Logits = std::vector<float>;
  struct Part {
    int slot;
    Tokens tokens;
  };

  ManySequences(MakeExecutor make, KvTypes types, const std::string& golden = "llama")
      : make_(std::move(make)), types_(types), tiny_(golden) {}

  ModelRunner runner(int sequences, int64_t cache_tokens = 0) const {
    return {
        tiny_.source(),
        make_(),
        {.context = 200, .cache = types_, .sequences = sequences, .cache_tokens = cache_tokens}};
  }

  // One pass; the logits of every token. `fits`: whether there are pages for all, or nothing runs.
  static std::vector<Logits> run(ModelRunner& runner, const std::vector<Part>& parts,
                                 bool* fits = nullptr) {
    Tokens tokens;
    std::vector<Segment> segments;
    std::vector<int64_t> rows;
    for (const Part& p : parts) {
      const int64_t begin = runner.cache().pages().reserved(p.slot), n = std::ssize(p.tokens);
      const bool fit = runner.cache().reserve(p.slot, begin + n);
      if (fits != nullptr) *fits = fit;
      if (!fit) return {};
      segments.push_back({p.slot, begin, n});
      tokens.insert(tokens.end(), p.tokens.begin(), p.tokens.end());
    }
    for (int64_t i = 0; i < std::ssize(tokens); ++i) rows.push_back(i);
    const Tensor logits = runner.run({tokens, segments}, rows);
    const auto vocab = static_cast<size_t>(logits.n);
    Logits all(rows.size() * vocab);
    runner.executor().read(logits, all);
    std::vector<Logits> out;
    for (size_t i = 0; i < rows.size(); ++i)
      out.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(i * vocab),
                       all.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab));
    return out;
  }
  // A few tokens at a time, in a cache of its own.
  std::vector<Logits> alone(const Tokens& tokens) const {
    ModelRunner one = runner(1);
    std::vector<Logits> out;
    for (auto p = tokens.begin(); p != tokens.end();) {
      const auto end = p + std::min<std::ptrdiff_t>(7, tokens.end() - p);
      for (Logits& l : run(one, {{0, {p, end}}})) out.push_back(std::move(l));
      p = end;
    }
    return out;
  }

  void different_lengths_in_one_batch() const {
    ModelRunner many = runner(3);
    const int64_t lengths[] = {1, 20, 66}, steps = 3;
    std::vector<Tokens> all;
    std::vector<std::vector<Logits>> expected;
    for (int s = 0; s < 3; ++s) {
      all.push_back(random_tokens(lengths[s] + steps, 96, 10 + static_cast<uint64_t>(s)));
      expected.push_back(alone(all.back()));
      for (int64_t p = 0; p < lengths[s]; p += 7) {
        const int64_t end = std::min(p + 7, lengths[s]);
        run(many, {{s, {all.back().begin() + p, all.back().begin() + end}}});
      }
    }
    for (int64_t i = 0; i < steps; ++i) {
      std::vector<Part> parts;
      for (int s = 2; s >= 0; --s)
        parts.push_back({s, {all[static_cast<size_t>(s)][static_cast<size_t>(lengths[s] + i)]}});
      const auto logits = run(many, parts);
      for (size_t j = 0; j < 3; ++j) {
        const size_t s = 2 - j;
        EXPECT_EQ(logits[j], expected[s][static_cast<size_t>(lengths[s] + i)])
            << "sequence " << s << ", step " << i;
      }
    }
  }

  void forks_share_pages_and_part() const {
    ModelRunner many = runner(3);
    const auto& pages = many.cache().pages();
    const Tokens prefix = random_tokens(70, 96, 1);
    for (size_t p = 0; p < 70; p += 5)
      run(many, {{0,
                  {prefix.begin() + static_cast<std::ptrdiff_t>(p),
                   prefix.begin() + static_cast<std::ptrdiff_t>(p) + 5}}});
    const int64_t free = pages.free();
    EXPECT_EQ(pages.count() - free, 2);
    many.cache().fork(0, 1, 70);
    many.cache().fork(0, 2, 66);
    EXPECT_EQ(pages.free(), free) << "a fork takes no page";
    const size_t shared[] = {70, 70, 66};
    std::vector<Tokens> all;
    std::vector<std::vector<Logits>> expected;
    for (size_t s = 0; s < 3; ++s) {
      all.emplace_back(prefix.begin(), prefix.begin() + static_cast<std::ptrdiff_t>(shared[s]));
      const Tokens own = random_tokens(5, 96, 20 + s);
      all[s].insert(all[s].end(), own.begin(), own.end());
      expected.push_back(alone(all[s]));
    }
    for (size_t i = 0; i < 5; ++i) {
      const auto logits =
          run(many, {{2, {all[2][66 + i]}}, {0, {all[0][70 + i]}}, {1, {all[1][70 + i]}}});
      EXPECT_EQ(logits[0], expected[2][66 + i]) << i;
      EXPECT_EQ(logits[1], expected[0][70 + i]) << i;
      EXPECT_EQ(logits[2], expected[1][70 + i]) << i;
    }
    EXPECT_EQ(pages.free(), free - 2) << "each got the last page for itself, the first is shared";
    many.cache().truncate(0, 0);
    EXPECT_EQ(pages.free(), free - 1);
    for (const int s : {1, 2}) many.cache().truncate(s, 0);
    EXPECT_EQ(pages.free(), pages.count());
  }

  // As speculative decoding does: some tokens at once, of which the first few stay.
  void truncated_tokens_are_forgotten() const {
    ModelRunner many = runner(2);
    const Tokens tokens = random_tokens(72, 96, 2), wrong = random_tokens(7, 96, 3);
    const auto expected = alone(tokens);
    for (size_t p = 0; p < 72; p += 3) {
      Tokens draft(tokens.begin() + static_cast<std::ptrdiff_t>(p),
                   tokens.begin() + static_cast<std::ptrdiff_t>(p) + 3);
      draft.insert(draft.end(), wrong.begin(), wrong.begin() + 4);
      const auto logits = run(many, {{1, draft}});
      for (size_t i = 0; i < 3; ++i) EXPECT_EQ(logits[i], expected[p + i]) << p + i;
      many.cache().truncate(1, static_cast<int64_t>(p) + 3);
    }
  }

  void running_out_of_pages_is_said_and_mended() const {
    ModelRunner many = runner(3, 128);  // two pages
    const Tokens tokens = random_tokens(70, 96, 4);
    const auto expected = alone(tokens);
    bool fits = true;
    const auto at = [&](std::ptrdiff_t i) { return tokens.begin() + i; };
    for (std::ptrdiff_t p = 0; p < 60; p += 3)
      run(many, {{0, {at(p), at(p + 3)}}, {1, {at(p), at(p + 3)}}});
    run(many, {{0, {at(60), at(64)}}});
    run(many, {{0, {tokens[64]}}}, &fits);
    EXPECT_FALSE(fits);
    EXPECT_EQ(many.cache().pages().reserved(0), 64) << "nothing changed";
    run(many, {{2, {1}}}, &fits);
    EXPECT_FALSE(fits);
    many.cache().truncate(1, 0);  // the scheduler preempts the other
    for (size_t i = 64; i < 70; ++i)
      EXPECT_EQ(run(many, {{0, {tokens[i]}}}, &fits).front(), expected[i]);
    EXPECT_TRUE(fits);
    EXPECT_PITH_ERROR(many.run({std::span(tokens).first(1), std::vector<Segment>{{1, 0, 1}}}, {}),
                      ErrorKind::kUsage, "no pages of their own");
    many.cache().fork(0, 1, 64);
    EXPECT_PITH_ERROR(many.run({std::span(tokens).first(1), std::vector<Segment>{{0, 63, 1}}}, {}),
                      ErrorKind::kUsage, "no pages of their own");
  }

  void next_tokens_of_several_rows() const {
    const FakeTokenizer texts = FakeTokenizer::letters(70);
    ModelRunner many = runner(4);
    const SamplingOptions kinds[] = {{},
                                     {.temperature = 1, .top_k = 5, .seed = 1},
                                     {.temperature = 1.5, .seed = 2},
                                     {.temperature = 1, .repetition_penalty = 0.5, .seed = 3}};
    std::vector<Sequence> together, apart;
    for (int s = 0; s < 4; ++s) {
      const Tokens prompt = random_tokens(3, 96, 30 + static_cast<uint64_t>(s));
      for (auto* to : {&together, &apart})
        to->emplace_back(
            many.model().spec, texts, prompt,
            GenerateOptions{.sampling = kinds[s], .stop = {}, .ignore_stop_tokens = true});
      run(many, {{s, {prompt[0], prompt[1]}}});
    }
    for (int step = 0; step < 6; ++step) {
      std::vector<Part> parts;
      std::vector<Sequence*> all;
      for (int s = 0; s < 4; ++s) {
        auto& sequence = together[static_cast<size_t>(s)];
        parts.push_back({s, {sequence.history().back()}});
        all.push_back(&sequence);
      }
      const auto logits = run(many, parts);
      int32_t next[4];
      many.sample(many.executor().buffer(TensorId::kLogits, 4, 96), all, next);
      for (size_t s = 0; s < 4; ++s) {
        EXPECT_EQ(next[s], apart[s].sampler().sample(logits[s], apart[s].history())) << s;
        together[s].push(next[s], false);
        apart[s].push(next[s], false);
      }
    }
  }

 private:
  const MakeExecutor make_;
  const KvTypes types_;
  const TinyRuntime tiny_;
};

}  // namespace pith::test
