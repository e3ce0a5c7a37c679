// --tokenizer was ignored for packed files, and a corrupt tokenizer in one was an error that named
// no file.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/bytes.h"
#include "core/file.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/model/source.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tokenizer.h"

namespace pith {
namespace {

using testing::HasSubstr;

class TokenizerOption : public testing::Test {
 protected:
  TokenizerOption() {
    test::write_tiny_checkpoint(in(), test::tiny_config({.layers = 1, .vocab = 40}));
    write_file(folder_.file("in/tokenizer.json"), as_bytes(test::tiny_tokenizer().dump()));
    // The letters in another order.
    Json other = test::tiny_tokenizer();
    auto& vocab = other["model"]["vocab"];
    std::swap(vocab["a"], vocab["z"]);
    write_file(other_file(), as_bytes(other.dump()));
    write_file(folder_.file("text"), as_bytes(std::string("a cat sat on a mat\n")));
    const auto r = pith({"quantize", in(), packed(), "w8", "-q"});
    EXPECT_EQ(r.exit_code, 0) << r.err;
  }
  static test::ProcessResult pith(std::vector<std::string> command) {
    command.insert(command.begin(), PITH_PROGRAM);
    return test::run_process(command);
  }
  std::string in() const { return folder_.file("in"); }
  std::string packed() const { return folder_.file("model.pith"); }
  std::string other_file() const { return folder_.file("other.json"); }

  test::TemporaryFolder folder_;
};

TEST_F(TokenizerOption, wins_over_the_tokenizer_of_every_kind_of_model) {
  for (const auto& model : {in(), packed()}) {
    SCOPED_TRACE(model);
    const auto own = open_model(model), other = open_model(model, other_file());
    const auto a = load_tokenizer(*own), b = load_tokenizer(*other);
    EXPECT_EQ(b->encode("az"), a->encode("za"));
    EXPECT_NE(b->encode("az"), a->encode("az"));
    EXPECT_EQ(other->tokenizer().from, other_file());
    const auto r =
        pith({"tokenize", model, "-p", "az", "--ids", "--plain", "--tokenizer", other_file()});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(r.out, pith({"tokenize", model, "-p", "za", "--ids", "--plain"}).out);
  }
  // The other commands that read text, with a packed file.
  const auto ppl = [&](std::vector<std::string> more) {
    std::vector<std::string> c = {"eval",   "ppl", packed(), "-f", folder_.file("text"),
                                  "--json", "-"};
    c.insert(c.end(), more.begin(), more.end());
    const auto r = pith(c);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return parse_json(r.out, "ppl")["nll"].get<double>();
  };
  EXPECT_NE(ppl({}), ppl({"--tokenizer", other_file()}));
  const std::string again = folder_.file("again.pith");
  ASSERT_EQ(pith({"quantize", packed(), again, "w8", "-q", "--tokenizer", other_file()}).exit_code,
            0);
  EXPECT_EQ(load_tokenizer(*open_model(again))->encode("az"),
            load_tokenizer(*open_model(packed()))->encode("za"));
}

TEST_F(TokenizerOption, that_cannot_be_used_is_a_named_error) {
  const std::string large = folder_.file("large.json"), broken = folder_.file("broken.json");
  Json tokenizer = test::tiny_tokenizer();
  tokenizer["model"]["vocab"]["zz"] = 99;
  write_file(large, as_bytes(tokenizer.dump()));
  write_file(broken, as_bytes(std::string("{\"model\": 7}")));
  const struct {
    std::string file;
    int exit_code;
    std::string says;
  } cases[] = {{large, 3, large + ": the tokenizer makes the id 99"},
               {broken, 3, broken + ": "},
               {folder_.file("none.json"), 4, folder_.file("none.json")},
               {folder_.file("text"), 3, "not a tokenizer.json"}};
  for (const auto& model : {in(), packed()}) {
    for (const auto& c : cases) {
      for (const auto& command : {std::vector<std::string>{"tokenize", model, "-p", "a"},
                                  {"run", model, "-p", "a", "-n", "1"},
                                  {"quantize", model, folder_.file("out.pith"), "w4", "-q"},
                                  {"eval", "ppl", model, "-f", folder_.file("text")}}) {
        auto with = command;
        with.insert(with.end(), {"--tokenizer", c.file});
        const auto r = pith(with);
        EXPECT_EQ(r.exit_code, c.exit_code) << command[0] << r.err;
        EXPECT_THAT(r.err, HasSubstr(c.says)) << command[0];
      }
    }
  }
  const auto alone = pith({"tokenize", in() + "/tokenizer.json", "-p", "a", "--tokenizer", large});
  EXPECT_EQ(alone.exit_code, 2);
  EXPECT_THAT(alone.err, HasSubstr("leave out --tokenizer"));
}

TEST_F(TokenizerOption, a_corrupt_tokenizer_inside_a_file_names_it) {
  write_file(folder_.file("in/tokenizer.json"), as_bytes(std::string("{\"model\": 7}")));
  const std::string bad = folder_.file("bad.pith");
  Passes passes;
  passes.push_back(
      make_quantize_pass({.linears = encoding_for_type("w8"), .ignore = {}, .overrides = {}}));
  compress(*open_model(in()), passes, {.output = bad, .calibration = {}}, no_progress());
  for (const auto& command : {std::vector<std::string>{"tokenize", bad, "-p", "a"},
                              {"run", bad, "-p", "a", "-n", "1"},
                              {"verify", bad}}) {
    const auto r = pith(command);
    EXPECT_EQ(r.exit_code, 3) << r.err;
    EXPECT_THAT(r.err, HasSubstr(bad + ": tokenizer.json")) << command[0];
  }
  // Another one helps.
  EXPECT_EQ(pith({"tokenize", bad, "-p", "a", "--tokenizer", other_file()}).exit_code, 0);
}

}  // namespace
}  // namespace pith
