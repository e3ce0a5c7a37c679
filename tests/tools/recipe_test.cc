// Recipes: how they are read, and that `pith compress` makes with one what commands make alone.

#include "tools/recipe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith::tools {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_recipe(text, "r.yaml");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
    return e.what();
  }
  return "";
}

TEST(Recipe, steps_have_the_settings_of_their_commands) {
  const Recipe r = parse_recipe(
      "steps:\n"
      "  - rotate: {seed: 5}\n"
      "  - quantize:\n"
      "      type: w8a8\n"
      "      damp_percent: 0.1\n"
      "      ignore: head\n"
      "      tensor_type:\n"
      "        - down: w4\n"
      "        - \"layers.2.*\": tcq3\n"
      "calibration:\n"
      "  windows: 8\n"
      "  texts: [self, \"chat.jsonl\": 2, {source: builtin, weight: 0.5}]\n"
      "seed: 9\n",
      "r.yaml");
  ASSERT_EQ(r.steps.size(), 2u);
  EXPECT_EQ(std::get<RotateOptions>(r.steps[0]).seed, 5u);
  const auto& q = std::get<QuantizeSettings>(r.steps[1]);
  EXPECT_EQ(q.linears, encoding_for_type("w8a8"));
  EXPECT_EQ(q.input, input_for_type("w8a8"));
  EXPECT_EQ(q.gptq.damping, 0.1);
  EXPECT_EQ(q.method.name(), "rtn");
  EXPECT_EQ(q.ignore, std::vector<std::string>{"head"});
  ASSERT_EQ(q.overrides.size(), 2u);
  EXPECT_EQ(q.overrides[1].first, "layers.2.*");
  EXPECT_EQ(q.overrides[1].second, encoding_for_type("tcq3"));
  ASSERT_EQ(r.texts.size(), 3u);
  EXPECT_EQ(r.texts[0].input.kind, CalibrationInput::Kind::kSelf);
  EXPECT_EQ(r.texts[1].input.weight, 2);
  EXPECT_EQ(r.texts[2].input.kind, CalibrationInput::Kind::kBuiltin);
  EXPECT_EQ(r.windows, 8);
  EXPECT_FALSE(r.tokens.has_value());
  EXPECT_EQ(r.seed, 9u);
  EXPECT_EQ(title_of(r), "rotate, int8-row with rtn");
}

TEST(Recipe, without_settings_a_step_takes_its_defaults) {
  const Recipe r = parse_recipe("steps: [rotate, quantize]\n", "r.yaml");
  const auto& q = std::get<QuantizeSettings>(r.steps[1]);
  EXPECT_EQ(q.linears, encoding_for_type("w4"));
  EXPECT_EQ(q.method.name(), "gptq");
  EXPECT_FALSE(r.has_calibration);
}

TEST(Recipe, errors_say_where_and_what_is_near) {
  EXPECT_EQ(error_of("steps:\n  - quantise:\n"),
            "r.yaml:2:5: no step \"quantise\"; is quantize meant?");
  EXPECT_EQ(error_of("steps:\n  - quantize: {typ: w4}\n"),
            "r.yaml:2:16: quantize has no setting \"typ\"; is type meant?");
  EXPECT_EQ(error_of("steps:\n  - quantize: {damp_percent: 11}\n"),
            "r.yaml:2:30: damp_percent \"11\": must be 0 to 10");
  EXPECT_EQ(error_of("steps:\n  - quantize: {refine: 1.5}\n"),
            "r.yaml:2:24: refine \"1.5\": a whole number is expected");
  EXPECT_EQ(error_of("steps:\n  - quantize: {order: 1}\n"),
            "r.yaml:2:23: order \"1\": true or false is expected");
  EXPECT_EQ(error_of("steps:\n  - quantize: {type: [w4]}\n"),
            "r.yaml:2:22: quantize: one value is expected");
  EXPECT_EQ(error_of("steps:\n  - quantize: {type: w99}\n").substr(0, 12), "r.yaml:2:22:");
  EXPECT_EQ(error_of("steps:\n  - quantize: {ignore: ['re:(']}\n").substr(0, 11), "r.yaml:2:5:");
  EXPECT_EQ(error_of("steps:\n  - quantize:\n  - rotate:\n"),
            "r.yaml:3:5: rotate comes before quantize: it changes the model that all others see");
  EXPECT_EQ(error_of("steps:\n  - quantize:\n  - prune:\n"),
            "r.yaml:3:5: prune comes before quantize: weights are dropped before the others are "
            "rounded");
  EXPECT_NE(error_of("steps: [residual]\n").find("r.yaml:1:8: residual gives back"),
            std::string::npos);
  EXPECT_NE(error_of("steps:\n  - prune: {as: mask}\n").find("there is none"), std::string::npos);
  EXPECT_NE(error_of("steps: [prune, residual]\n").find("residual gives back"), std::string::npos);
  EXPECT_NE(error_of("steps: [prune, prune]\n").find("twice"), std::string::npos);
  EXPECT_NE(error_of("steps: [residual, quantize]\n").find("a residual is what rounding left"),
            std::string::npos);
  EXPECT_NE(error_of("steps: [rotate]\ncalibration: {texts: {a: x}}\n").find("a number"),
            std::string::npos);
  EXPECT_EQ(error_of("step:\n  - rotate:\n"),
            "r.yaml:1:1: a recipe has a list of steps: \"steps:\" is missing");
  EXPECT_EQ(error_of("steps: [rotate]\nsed: 1\n"),
            "r.yaml:2:1: a recipe has no setting \"sed\"; is seed meant?");
  EXPECT_EQ(error_of("steps: [rotate]\nseed: -1\n").substr(0, 12), "r.yaml:2:7: ");
  EXPECT_EQ(error_of("steps: [rotate]\ncalibration: [a, a]\n"),
            "r.yaml:2:18: \"a\" is there twice");
  EXPECT_EQ(error_of("steps: [rotate]\ncalibration: [a: 0]\n"),
            "r.yaml:2:15: texts: a weight is a number above 0");
  EXPECT_EQ(error_of("steps: [rotate]\ndevice: tpu\n"), "r.yaml:2:9: device: choose cpu or cuda");
  EXPECT_EQ(error_of("- rotate\n").substr(0, 11), "r.yaml:1:1:");
}

TEST(Recipe, texts_are_files_or_sources_with_weights) {
  using Kind = CalibrationInput::Kind;
  const Recipe pairs =
      parse_recipe("steps: [rotate]\ncalibration: {texts: {t.txt: 2, self: 1}}\n", "r.yaml");
  ASSERT_EQ(pairs.texts.size(), 2u);
  EXPECT_EQ(pairs.texts[0].input.name, "t.txt");
  EXPECT_EQ(pairs.texts[0].input.weight, 2);
  EXPECT_EQ(pairs.texts[1].input.kind, Kind::kSelf);
  // As files have it: two texts of one name, a file that is called like a source, a builtin domain.
  const Recipe carried = parse_recipe(
      "steps: [rotate]\n"
      "calibration:\n"
      "  texts:\n"
      "    - {file: self, weight: 1, windows: 2, hash: 01}\n"
      "    - {file: t.txt, weight: 1, windows: 2, hash: 02}\n"
      "    - {file: t.txt, weight: 1, windows: 2, hash: 03}\n"
      "    - {source: builtin/code.txt, weight: 0.5, windows: 2, hash: 04}\n"
      "    - {source: builtin/manual.txt, weight: 0.5, windows: 2, hash: 05}\n"
      "    - {source: builtin/mine.txt, weight: 1}\n",
      "r.yaml");
  ASSERT_EQ(carried.texts.size(), 5u);
  EXPECT_EQ(carried.texts[0].input.kind, Kind::kFile);
  EXPECT_EQ(carried.texts[3].input.kind, Kind::kBuiltin);
  EXPECT_EQ(carried.texts[3].input.weight, 1);
  EXPECT_EQ(carried.texts[4].input.kind, Kind::kFile);
  EXPECT_FALSE(parse_recipe("steps: [rotate]\ncalibration:\n", "r.yaml").has_calibration);
}

class CompressCommandTest : public testing::Test {
 protected:
  CompressCommandTest() {
    test::write_tiny_checkpoint(folder_.file("in"), test::tiny_config({.vocab = 640}), DType::kF16);
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("in/tokenizer.json"));
    std::string text;
    for (int i = 0; i < 400; ++i) text += "the cat sat on the mat. ";
    write("text", text);
  }
  void write(const std::string& name, const std::string& text) {
    write_file(folder_.file(name), std::as_bytes(std::span(text)));
  }
  test::ProcessResult pith(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), PITH_PROGRAM);
    return test::run_process(arguments, {}, input);
  }
  std::string read(const std::string& name) const {
    return read_text_file(folder_.file(name), 1 << 24);
  }
  std::string at(const std::string& name) const { return folder_.file(name); }

  test::TemporaryFolder folder_;
};

TEST_F(CompressCommandTest, makes_what_the_command_makes_and_its_recipe_makes_it_again) {
  const auto alone = pith({"quantize",   at("in"),   at("a.pith"), "int4-g32", "--method",
                           "gptq",       "--rotate", "--seed",     "3",        "--tensor-type",
                           "down=w8",    "--ignore", "o",          "--calib",  at("text"),
                           "--nsamples", "8",        "--seqlen",   "48",       "-q"});
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  write("r.yaml",
        "steps:\n"
        "  - rotate:\n"  // by the seed of the recipe
        "  - quantize: {type: int4-g32, method: gptq, tensor_type: {down: w8}, ignore: [o]}\n"
        "calibration: {windows: 8, tokens: 48, texts: '" +
            at("text") + "'}\nseed: 3\n");
  const auto by_recipe = pith({"compress", at("in"), at("b.pith"), "--recipe", at("r.yaml"), "-q"});
  ASSERT_EQ(by_recipe.exit_code, 0) << by_recipe.err;
  EXPECT_EQ(read("a.pith"), read("b.pith"));

  const auto recipe = pith({"inspect", at("a.pith"), "--recipe"});
  ASSERT_EQ(recipe.exit_code, 0) << recipe.err;
  const auto again =
      pith({"compress", at("in"), at("c.pith"), "--recipe", "-", "--calib", at("text"), "-q"},
           recipe.out);
  ASSERT_EQ(again.exit_code, 0) << again.err << recipe.out;
  EXPECT_EQ(read("a.pith"), read("c.pith"));
}

TEST_F(CompressCommandTest, refuses_another_text_than_the_recipe_was_made_with) {
  write("r.yaml",
        "steps: [quantize: {type: w8, method: rtn}]\ncalibration: {windows: 8, tokens: 48, "
        "texts: [{source: '" +
            at("text") + "', hash: 0123456789abcdef}]}\n");
  const auto r = pith({"compress", at("in"), at("out.pith"), "--recipe", at("r.yaml"), "-q"});
  EXPECT_EQ(r.exit_code, 2);
  EXPECT_NE(r.err.find("another text than the recipe was made with"), std::string::npos) << r.err;
  EXPECT_FALSE(std::filesystem::exists(at("out.pith")));
}

TEST_F(CompressCommandTest, refuses_bad_recipes_before_any_work) {
  write("r.yaml", "steps:\n  - quantize: {tpye: w4}\n");
  const auto r = pith({"compress", at("missing"), at("out.pith"), "--recipe", at("r.yaml"), "-q"});
  EXPECT_EQ(r.exit_code, 2);
  EXPECT_NE(r.err.find("r.yaml:2:16: quantize has no setting \"tpye\"; is type meant?"),
            std::string::npos)
      << r.err;
  write("big.yaml", std::string(10 << 20, '#'));
  EXPECT_EQ(
      pith({"compress", at("in"), at("out.pith"), "--recipe", at("big.yaml"), "-q"}).exit_code, 3);
  EXPECT_EQ(pith({"compress", at("in"), at("r.yaml"), "--recipe", at("r.yaml"), "-q"}).exit_code,
            2);
  EXPECT_EQ(pith({"compress", at("in"), at("out.pith"), "-q"}).exit_code, 2);
  EXPECT_FALSE(std::filesystem::exists(at("out.pith")));
}

TEST_F(CompressCommandTest, a_dry_run_shows_the_plan_and_writes_nothing) {
  write("r.yaml", "steps: [rotate, quantize: {type: w3}]\n");
  const auto r = pith(
      {"compress", at("in"), at("out.pith"), "--recipe", at("r.yaml"), "--dry-run", "--json", "-"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json j = parse_json(r.out, "output");
  EXPECT_EQ(j["linears"][1]["to"], "int3-g64-asym");
  EXPECT_NE(j["recipe"].get<std::string>().find("- rotate:"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(at("out.pith")));
}

TEST_F(CompressCommandTest, prune_is_a_recipe_of_one_step) {
  const auto alone = pith({"prune",      at("in"),   at("a.pith"), "--method", "sparsegpt",
                           "--pattern",  "2:4",      "--as",       "sparse",   "--layer-sparsity",
                           "down=0.25",  "--ignore", "o",          "--calib",  at("text"),
                           "--nsamples", "8",        "--seqlen",   "48",       "-q"});
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  write("r.yaml",
        "steps:\n  - prune: {method: sparsegpt, sparsity: 2:4, as: sparse, layer_sparsity: {down: "
        "25%}, ignore: [o]}\ncalibration: {windows: 8, tokens: 48, texts: '" +
            at("text") + "'}\n");
  const auto by_recipe = pith({"compress", at("in"), at("b.pith"), "--recipe", at("r.yaml"), "-q"});
  ASSERT_EQ(by_recipe.exit_code, 0) << by_recipe.err;
  EXPECT_EQ(read("a.pith"), read("b.pith"));
  const auto err = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {"prune", at("in"), at("c.pith")});
    const auto r = pith(options);
    EXPECT_EQ(r.exit_code, 2) << r.err;
    return r.err;
  };
  EXPECT_NE(err({"--sparsity", "1.5"}).find("--sparsity \"1.5\""), std::string::npos);
  EXPECT_NE(err({"--method", "wnada"}).find("wanda"), std::string::npos);
  EXPECT_NE(err({"--damp-percent", "11"}).find("--damp-percent \"11\": must be 0 to 10"),
            std::string::npos);
  EXPECT_NE(err({"--sparsity", "0.3", "--pattern", "2:4"}).find("differ"), std::string::npos);
  EXPECT_NE(err({"--as", "mask"}).find("mask"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(at("c.pith")));
}

TEST_F(CompressCommandTest, any_sequence_of_steps_is_the_same_bytes_for_any_number_of_threads) {
  write("r.yaml",
        "steps:\n"
        "  - rotate:\n"
        "  - prune: {method: wanda, sparsity: 0.3, ignore: [down]}\n"
        "  - factorize: {keep_params: 0.7, ignore: [q, k, v, o, gate, up]}\n"
        "  - quantize: {type: int4-g32, method: gptq}\n"
        "  - residual: {rank: 4, ignore: [down]}\n"
        "calibration: {windows: 8, tokens: 48, texts: '" +
            at("text") + "'}\n");
  const auto one =
      pith({"compress", at("in"), at("a.pith"), "--recipe", at("r.yaml"), "-q", "-t", "1"});
  ASSERT_EQ(one.exit_code, 0) << one.err;
  const auto three =
      pith({"compress", at("in"), at("b.pith"), "--recipe", at("r.yaml"), "-q", "-t", "3"});
  ASSERT_EQ(three.exit_code, 0) << three.err;
  EXPECT_EQ(read("a.pith"), read("b.pith"));
  const auto tensors = pith({"inspect", at("a.pith"), "--tensors"});
  EXPECT_NE(tensors.out.find("rank"), std::string::npos) << tensors.out;
  EXPECT_EQ(pith({"verify", at("a.pith")}).exit_code, 0);
  // The recipe in the file makes it again.
  const auto recipe = pith({"inspect", at("a.pith"), "--recipe"});
  const auto again =
      pith({"compress", at("in"), at("c.pith"), "--recipe", "-", "--calib", at("text"), "-q"},
           recipe.out);
  ASSERT_EQ(again.exit_code, 0) << again.err << recipe.out;
  EXPECT_EQ(read("a.pith"), read("c.pith"));
}

TEST_F(CompressCommandTest, every_example_runs) {
  int examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(test::fixture("")) / "../examples/recipes")) {
    const std::string out = at(entry.path().stem().string() + ".pith");
    const auto r = pith({"compress", at("in"), out, "--recipe", entry.path().string(), "--nsamples",
                         "8", "--seqlen", "32", "-q"});
    EXPECT_EQ(r.exit_code, 0) << entry.path() << r.err;
    const std::string text = read_text_file(entry.path().string(), 1 << 20);
    EXPECT_TRUE(text.starts_with("# ")) << entry.path() << " does not say what it is for";
    EXPECT_EQ(pith({"verify", out}).exit_code, 0) << entry.path();
    ++examples;
  }
  EXPECT_GE(examples, 6);
}

}  // namespace
}  // namespace pith::tools
