#include "runtime/engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/parallel.h"
#include "tests/support/fake_tokenizer.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

const std::vector<int32_t> kPrompt = {1, 40, 7, 93, 22};

// Texts of one to three letters, some of several bytes.
test::FakeTokenizer make_texts() {
  const std::string letters[] = {"a", "b", "c", "d", "\xc3\xa9", "e", "\xe6\x97\xa5"};
  std::vector<std::string> texts;
  for (size_t i = 0; i < 96; ++i) {
    std::string text;
    for (size_t j = 0; j <= i % 3; ++j) text += letters[(i / 3 + j * i) % 7];
    texts.push_back(std::move(text));
  }
  return test::FakeTokenizer(std::move(texts));
}

class Generation : public testing::Test {
 protected:
  struct Shown {
    GenerateResult result;
    std::string text;  // the pieces joined
    int pieces = 0;
  };
  // In a context of its own. `check` sees what was shown so far, after each piece.
  Shown generate(
      const GenerateOptions& options, const RunnerOptions& engine_options = {},
      FunctionRef<bool(const std::string&)> check = [](const std::string&) { return true; }) {
    Engine engine(tiny().source(), engine_options);
    Shown shown;
    shown.result = engine.generate(texts_, kPrompt, options, [&](const std::string& piece) {
      EXPECT_FALSE(piece.empty());
      shown.text += piece;
      ++shown.pieces;
      return check(shown.text);
    });
    return shown;
  }
  static const test::TinyRuntime& tiny() {
    static const test::TinyRuntime runtime;
    return runtime;
  }

  static GenerateOptions lively(int64_t tokens) {
    GenerateOptions o;
    o.max_tokens = tokens;
    o.sampling.temperature = 1.5;
    o.sampling.seed = 11;
    o.ignore_stop_tokens = true;
    return o;
  }

  const test::FakeTokenizer texts_ = make_texts();
};

TEST_F(Generation, pieces_joined_are_the_text) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    GenerateOptions o = lively(40);
    o.sampling.seed = seed;
    const Shown shown = generate(o);
    EXPECT_EQ(shown.text, shown.result.text);
    EXPECT_EQ(shown.result.finish, "length");
    EXPECT_EQ(shown.result.tokens.size(), 40u);
    EXPECT_GT(shown.pieces, 20);
    StreamDecoder decoder(texts_);
    std::string expected;
    for (const int32_t id : shown.result.tokens) expected += decoder.push(id);
    EXPECT_EQ(shown.text, expected + decoder.finish());
  }
}

TEST_F(Generation, the_seed_decides) {
  const Shown a = generate(lively(20)), b = generate(lively(20));
  EXPECT_EQ(a.result.tokens, b.result.tokens);
  GenerateOptions other = lively(20);
  other.sampling.seed = 12;
  EXPECT_NE(generate(other).result.tokens, a.result.tokens);
}

// Every part of the text as a stop: inside of tokens, across them, at the ends.
TEST_F(Generation, stop_texts_end_the_answer_and_are_never_shown) {
  const std::string whole = generate(lively(14)).result.text;
  std::set<std::string> stops;
  for (size_t length = 1; length <= 9; ++length) {
    for (size_t at = 0; at + length <= whole.size(); at += 1 + length / 3)
      stops.insert(whole.substr(at, length));  // of characters too: a stop is bytes
  }
  ASSERT_GT(stops.size(), 30u);
  for (const std::string& stop : stops) {
    GenerateOptions o = lively(14);
    o.stop = {stop};
    const std::string expected = whole.substr(0, whole.find(stop));
    const Shown shown = generate(o, {}, [&](const std::string& so_far) {
      EXPECT_TRUE(expected.starts_with(so_far)) << '"' << so_far << "\" shows of \"" << stop << '"';
      return true;
    });
    EXPECT_EQ(shown.text, expected) << stop;
    EXPECT_EQ(shown.result.text, expected);
    EXPECT_EQ(shown.result.finish, "stop");
  }
}

TEST_F(Generation, what_only_begins_like_a_stop_is_shown_in_the_end) {
  const std::string whole = generate(lively(14)).result.text;
  for (const size_t tail : {1, 2, 5}) {
    GenerateOptions o = lively(14);
    o.stop = {whole.substr(whole.size() - tail) + "#never", "also never", ""};
    const Shown shown = generate(o);
    EXPECT_EQ(shown.text, whole);
    EXPECT_EQ(shown.result.finish, "length");
  }
}

TEST_F(Generation, of_several_stops_the_first_in_the_text_counts) {
  const std::string whole = generate(lively(14)).result.text;
  for (size_t at = 0; at + 6 < whole.size(); ++at) {
    GenerateOptions o = lively(14);
    // Both may come with one token.
    o.stop = {whole.substr(at + 1, 2), whole.substr(at, 2)};
    const size_t end = std::min(whole.find(o.stop[0]), whole.find(o.stop[1]));
    EXPECT_EQ(generate(o).text, whole.substr(0, end)) << at;
  }
}

TEST_F(Generation, stop_tokens_end_the_answer_unless_ignored) {
  const auto tokens = generate(lively(20)).result.tokens;
  GenerateOptions o = lively(60);
  o.ignore_stop_tokens = false;
  Engine engine(tiny().source(), {});
  const auto& stops = engine.model().spec.stop_tokens();
  ASSERT_FALSE(stops.empty());
  bool stopped = false;
  for (uint64_t seed = 0; seed < 60 && !stopped; ++seed) {
    o.sampling.seed = seed;
    const Shown shown = generate(o);
    for (const int32_t id : shown.result.tokens)
      EXPECT_EQ(std::ranges::count(stops, id), 0) << "a stop token in the answer";
    stopped = shown.result.finish == "stop";
  }
  EXPECT_TRUE(stopped) << "no seed met the stop token";
}

TEST_F(Generation, ends_where_the_context_is_full) {
  RunnerOptions small;
  small.context = 16;
  const Shown shown = generate(lively(1000), small);
  EXPECT_EQ(shown.result.finish, "context");
  // 11 tokens run behind the prompt of 5, and the last one sampled is not run.
  EXPECT_EQ(shown.result.tokens.size(), 12u);
  EXPECT_EQ(shown.text, shown.result.text);
  small.context = 5;
  EXPECT_EQ(generate(lively(1000), small).result.tokens.size(), 1u);
  small.context = 4;
  EXPECT_PITH_ERROR(generate(lively(1), small), ErrorKind::kUsage, "context of 4");
}

TEST_F(Generation, gives_at_most_as_many_tokens_as_asked) {
  const auto all = generate(lively(20)).result.tokens;
  for (const int64_t n : {0, 1, 2, 19}) {
    const Shown shown = generate(lively(n));
    EXPECT_EQ(shown.result.finish, "length");
    EXPECT_EQ(shown.result.tokens, std::vector<int32_t>(all.begin(), all.begin() + n));
    EXPECT_EQ(shown.text, shown.result.text);
  }
}

TEST_F(Generation, ends_when_nobody_listens) {
  int pieces = 0;
  const Shown shown = generate(lively(20), {}, [&](const std::string&) { return ++pieces < 3; });
  EXPECT_EQ(shown.result.finish, "cancelled");
  EXPECT_EQ(shown.pieces, 3);
}

TEST_F(Generation, neither_the_prefill_chunk_nor_threads_change_the_tokens) {
  GenerateOptions greedy;
  greedy.max_tokens = 20;
  greedy.ignore_stop_tokens = true;
  const auto expected = generate(greedy).result.tokens;
  for (const int64_t chunk : {1, 2, 3, 4, 5, 64}) {
    RunnerOptions o;
    o.prefill_chunk = chunk;
    EXPECT_EQ(generate(greedy, o).result.tokens, expected) << "chunks of " << chunk;
  }
  for (const int threads : {1, 2, 3}) {
    set_threads(threads);
    EXPECT_EQ(generate(greedy).result.tokens, expected) << threads << " threads";
    EXPECT_EQ(generate(lively(20)).result.tokens, generate(lively(20)).result.tokens);
  }
  set_threads(0);
  RunnerOptions o;
  o.prefill_chunk = -1;
  EXPECT_PITH_ERROR(generate(greedy, o), ErrorKind::kUsage, "prefill chunks");
}

// ---- The engine alone ----

void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-5f) << "logit " << i;
}

TEST(Engine, prefill_in_chunks_gives_the_logits_of_one_pass) {
  const test::TinyRuntime tiny;
  const auto tokens = test::random_tokens(50, 96, 1);
  std::vector<float> expected;
  for (const int64_t chunk : {512, 49, 25, 16, 7, 1}) {
    Engine engine(tiny.source(), {.cache = NumberFormat::kF32, .prefill_chunk = chunk});
    const auto logits = engine.extend(tokens);
    EXPECT_EQ(engine.position(), 50);
    EXPECT_EQ(logits.size(), 96u);
    if (expected.empty()) expected = logits;
    expect_near(logits, expected);
  }
}

TEST(Engine, rewinding_forgets_what_followed) {
  const test::TinyRuntime tiny;
  Engine engine(tiny.source(), {.cache = NumberFormat::kF32});
  const auto tokens = test::random_tokens(30, 96, 2);
  const std::span all(tokens);
  const auto expected = engine.extend(all);
  engine.rewind(10);
  EXPECT_EQ(engine.position(), 10);
  engine.extend(test::random_tokens(40, 96, 3));
  engine.rewind(10);
  expect_near(engine.extend(all.subspan(10)), expected);
  engine.rewind(1000);  // never forward
  EXPECT_EQ(engine.position(), 30);
  engine.rewind(-5);
  EXPECT_EQ(engine.position(), 0);
  EXPECT_EQ(engine.extend(all), expected) << "the same work gives the same bits";
}

TEST(Engine, what_does_not_fit_is_refused_and_changes_nothing) {
  const test::TinyRuntime tiny;
  Engine engine(tiny.source(), {.context = 16});
  const auto tokens = test::random_tokens(16, 96, 4);
  engine.extend(std::span(tokens).first(10));
  EXPECT_PITH_ERROR(engine.extend({}), ErrorKind::kUsage, "no tokens");
  EXPECT_PITH_ERROR(engine.extend(std::span(tokens).first(7)), ErrorKind::kUsage,
                    "17 tokens do not fit a context of 16");
  for (const int32_t id : {-1, 96, 1 << 30}) {
    EXPECT_PITH_ERROR(engine.extend(std::span(&id, 1)), ErrorKind::kUsage, "vocabulary");
  }
  EXPECT_EQ(engine.position(), 10);
  engine.extend(std::span(tokens).first(6));
  EXPECT_EQ(engine.position(), 16);
}

TEST(Engine, takes_the_context_of_the_model_by_default) {
  const test::TinyRuntime tiny;
  EXPECT_EQ(Engine(tiny.source(), {}).context(), 64);
  EXPECT_EQ(Engine(tiny.source(), {.context = 100}).context(), 100);
}

}  // namespace
}  // namespace pith
